/* SPDX-License-Identifier: GPL-2.0-or-later */
#define smp_load_acquire(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
