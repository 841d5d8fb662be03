/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Debian keeps <asm/types.h> in a folder of one architecture; for BPF the
 * generic one holds on all. */
#pragma once
#include <asm-generic/types.h>
