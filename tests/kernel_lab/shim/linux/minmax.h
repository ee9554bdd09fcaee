/* SPDX-License-Identifier: GPL-2.0-or-later */
#define max(a, b) ((a) > (b) ? (a) : (b))
