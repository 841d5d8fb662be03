/* SPDX-License-Identifier: Apache-2.0 */
/* lookup NAME…: what the C library resolves each name to, and each address to. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int order(const void *a, const void *b) { return strcmp(a, b); }

static void names(const char *name)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *list = 0, *i;
	char found[16][INET6_ADDRSTRLEN];
	int n = 0;

	if (!getaddrinfo(name, 0, &hints, &list))
		for (i = list; i && n < 16; i = i->ai_next)
			getnameinfo(i->ai_addr, i->ai_addrlen, found[n++], INET6_ADDRSTRLEN, 0, 0, NI_NUMERICHOST);
	qsort(found, n, sizeof(*found), order);
	for (int k = 0; k < n; k++)
		printf(" %s", found[k]);
	if (list)
		freeaddrinfo(list);
}

int main(int argc, char **argv)
{
	for (int k = 1; k < argc; k++) {
		struct sockaddr_in at = { .sin_family = AF_INET };
		char name[NI_MAXHOST];

		printf("%s", argv[k]);
		if (inet_pton(AF_INET, argv[k], &at.sin_addr) == 1) {
			if (!getnameinfo((struct sockaddr *)&at, sizeof(at), name, sizeof(name), 0, 0, NI_NAMEREQD))
				printf(" %s", name);
		} else {
			names(argv[k]);
		}
		printf("\n");
	}
	return 0;
}
