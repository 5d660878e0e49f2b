/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's end of the test protocol: whole lines on ttyS0
 *
 * Any thread may say something; a line is one write(2), which the kernel does
 * not interleave with another.  Only the main thread listens.
 */
#ifndef GUEST_SERIAL_H
#define GUEST_SERIAL_H

#include <stdbool.h>
#include <stddef.h>

/* Longest line in either direction, with its end. */
#define SERIAL_LINE_MAX 256

/* Opens and configures ttyS0.  Returns false with errno set. */
bool serial_open(void);

/* Sends one line; @fmt has no newline.  Longer lines are cut. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Says SO PANIC with the text and errno's meaning, and never returns. */
void fatal(const char *fmt, ...)
    __attribute__((format(printf, 1, 2), noreturn));

/* Waits for one line and stores it in @line without its end. */
void listen_line(char line[SERIAL_LINE_MAX]);

#endif
