/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's end of the test protocol: whole lines on ttyS0
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "serial.h"

/* Set once by serial_open(), before any other thread exists. */
static int tty = -1;

bool serial_open(void)
{
    struct termios t;

    tty = open("/dev/ttyS0", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (tty < 0 || tcgetattr(tty, &t) < 0) {
        return false;
    }
    cfmakeraw(&t);
    t.c_cflag |= CLOCAL | CREAD;
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    cfsetspeed(&t, B115200);
    return tcsetattr(tty, TCSANOW, &t) == 0;
}

static void write_line(char *line, size_t len)
{
    line[len] = '\n';
    while (write(tty, line, len + 1) < 0 && errno == EINTR) {
        continue;
    }
}

static size_t format_line(char *line, size_t at, const char *fmt, va_list ap)
{
    size_t room = SERIAL_LINE_MAX - at;
    int len = vsnprintf(line + at, room, fmt, ap);

    if (len < 0) {
        return at;
    }
    return (size_t)len < room ? at + len : SERIAL_LINE_MAX - 1;
}

void say(const char *fmt, ...)
{
    char line[SERIAL_LINE_MAX];
    va_list ap;
    size_t len;

    va_start(ap, fmt);
    len = format_line(line, 0, fmt, ap);
    va_end(ap);
    write_line(line, len);
}

void fatal(const char *fmt, ...)
{
    const char *reason = strerror(errno);
    char text[SERIAL_LINE_MAX];
    va_list ap;

    va_start(ap, fmt);
    format_line(text, 0, fmt, ap);
    va_end(ap);
    say("SO PANIC %s: %s", text, reason);
    for (;;) {
        pause();    /* an init that exits takes the kernel with it */
    }
}

void listen_line(char line[SERIAL_LINE_MAX])
{
    size_t len = 0;
    char c;

    for (;;) {
        if (read(tty, &c, 1) != 1) {
            continue;
        }
        if (c == '\n' || c == '\r') {
            if (len) {
                break;
            }
        } else if (len < SERIAL_LINE_MAX - 1) {
            line[len++] = c;
        }
    }
    line[len] = '\0';
}
