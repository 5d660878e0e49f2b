/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemu/osdep.h"
#include "switchover/postcopy-ready-tests.h"
void sw_add_postcopy_input_tests(void)
{
}
