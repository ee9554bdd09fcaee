/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#define sort(base, nr, size, compare, swap) qsort(base, nr, size, compare)
