/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: the guest, as far as its serial line tells
 *
 * The guest says "SO HB <n>" every few milliseconds as long as it runs, does
 * I/O that it verifies, and answers commands.  A thread stamps each heartbeat
 * as it arrives: the longest silence in an interval is how long the guest was
 * stopped at most.
 *
 * A line that the switchover cut in two is heard by neither side; so commands
 * are only given to a guest that stays where it is.
 */
#ifndef SWITCHOVER_GUEST_H
#define SWITCHOVER_GUEST_H

typedef struct SwGuest SwGuest;

/* The guest's requests are of this many bytes each */
#define SW_GUEST_BLOCK 4096

/*
 * Listens to the serial line @fd, which it owns; @name is for messages.  What
 * the guest's kernel says goes to the file @console, and is shown if the test
 * fails for want of the guest.
 */
SwGuest *sw_guest_new(int fd, const char *name, const char *console);
void sw_guest_free(SwGuest *guest);

/* Waits until the guest booted and opened @disks disks */
void sw_guest_wait_ready(SwGuest *guest, unsigned disks);

/* The guest is about to boot again: to be called before it is told to */
void sw_guest_expect_reboot(SwGuest *guest);

/*
 * Gives the command @cmd, waits for its "SO OK", and returns what follows
 * there.  Anything else, and silence, fails the test.
 */
char *sw_guest_cmd(SwGuest *guest, const char *cmd);

/* Waits until the guest has the disk @name, or has it no more */
void sw_guest_wait_disk(SwGuest *guest, const char *name, bool present);

/* I/O operations completed so far; that any failed fails the test */
int64_t sw_guest_ops(SwGuest *guest);

/* The same, on the disk @name only */
int64_t sw_guest_disk_ops(SwGuest *guest, const char *name);

/* Frames that vCPU @cpu sent on card number @card, and that came back there */
int64_t sw_guest_frames(SwGuest *guest, unsigned card, unsigned cpu);

/* Waits for @n more heartbeats: the guest runs, here */
void sw_guest_wait_beats(SwGuest *guest, unsigned n);

/* Waits until no heartbeat came for @ms: the guest is stopped */
void sw_guest_wait_silence(SwGuest *guest, int ms);

/* Heartbeats heard so far */
unsigned sw_guest_beats(SwGuest *guest);

/* Longest time without a heartbeat between @from_us and @to_us */
int64_t sw_guest_worst_gap_ms(SwGuest *guest, int64_t from_us, int64_t to_us);

#endif /* SWITCHOVER_GUEST_H */
