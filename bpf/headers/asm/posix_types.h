/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* See types.h. */
#pragma once
#include <asm-generic/posix_types.h>
