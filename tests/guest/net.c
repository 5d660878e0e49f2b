/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest of the switchover tests: network cards whose other end reflects frames
 *
 * Frames are of a protocol for experiments, so that nothing else in the guest
 * cares, and go to an address that nobody has; they come back to ours.
 *
 * A card has a queue for each CPU, if it has so many, and the kernel takes the
 * queue of the CPU that sends.  So the frames of one turn are sent by one CPU,
 * those of the next turn by the next one, and each says which it was.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <arpa/inet.h>
#include <unistd.h>

#include "net.h"
#include "serial.h"

#define PROTOCOL 0x88b5
#define NET_CPUS_MAX 256

typedef struct Frame {
    struct ether_header header;
    uint16_t cpu;
    unsigned char rest[128 - sizeof(struct ether_header) - sizeof(uint16_t)];
} __attribute__((packed)) Frame;

typedef struct Nic {
    int fd;
    Frame frame;
    atomic_uint_fast64_t returned[NET_CPUS_MAX];
} Nic;

static Nic all[NET_NICS_MAX];
static unsigned n_nics, n_cpus, period;
static atomic_uint_fast64_t n_sent, n_received;

static void nic_ioctl(int fd, unsigned long request, struct ifreq *ifr)
{
    if (ioctl(fd, request, ifr) < 0) {
        fatal("%s", ifr->ifr_name);
    }
}

static void nic_open(Nic *nic, unsigned i)
{
    static const unsigned char nobody[] = { 0x02, 0, 0, 0, 0, 0x01 };
    struct ifreq ifr = { 0 };
    struct sockaddr_ll addr = {
        .sll_family = AF_PACKET, .sll_protocol = htons(PROTOCOL),
    };
    struct ether_header *header = &nic->frame.header;

    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "eth%u", i);
    nic->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(PROTOCOL));
    if (nic->fd < 0) {
        fatal("AF_PACKET");
    }
    nic_ioctl(nic->fd, SIOCGIFFLAGS, &ifr);
    ifr.ifr_flags |= IFF_UP;
    nic_ioctl(nic->fd, SIOCSIFFLAGS, &ifr);
    nic_ioctl(nic->fd, SIOCGIFHWADDR, &ifr);
    memcpy(header->ether_shost, ifr.ifr_hwaddr.sa_data, ETH_ALEN);
    memcpy(header->ether_dhost, nobody, ETH_ALEN);
    header->ether_type = htons(PROTOCOL);
    nic_ioctl(nic->fd, SIOCGIFINDEX, &ifr);
    addr.sll_ifindex = ifr.ifr_ifindex;
    if (bind(nic->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        fatal("bind eth%u", i);
    }
}

static void go_to_cpu(unsigned cpu)
{
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    CPU_SET(cpu, &cpus);
    if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0) {
        fatal("CPU %u", cpu);
    }
}

static void nic_send(Nic *nic, unsigned cpu)
{
    nic->frame.cpu = cpu;
    n_sent += send(nic->fd, &nic->frame, sizeof(nic->frame),
                   MSG_DONTWAIT) == sizeof(nic->frame);
}

static void nic_receive(Nic *nic)
{
    Frame frame;

    while (recv(nic->fd, &frame, sizeof(frame), MSG_DONTWAIT) > 0) {
        n_received++;
        if (frame.cpu < n_cpus) {
            nic->returned[frame.cpu]++;
        }
    }
}

static void *net_main(void *opaque)
{
    for (unsigned turn = 0;; turn++) {
        unsigned cpu = turn % n_cpus;

        go_to_cpu(cpu);
        for (unsigned i = 0; i < n_nics; i++) {
            nic_send(&all[i], cpu);
        }
        poll(NULL, 0, period);
        for (unsigned i = 0; i < n_nics; i++) {
            nic_receive(&all[i]);
        }
    }
    return opaque;
}

void net_start(unsigned nics, unsigned period_ms)
{
    pthread_t thread;

    if (nics > NET_NICS_MAX) {
        errno = ERANGE;
        fatal("so.nics=%u", nics);
    }
    n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
    n_cpus = n_cpus < NET_CPUS_MAX ? n_cpus : NET_CPUS_MAX;
    for (unsigned i = 0; i < nics; i++) {
        nic_open(&all[i], i);
    }
    n_nics = nics;
    period = period_ms;
    if (nics && pthread_create(&thread, NULL, net_main, NULL)) {
        fatal("so.nics");
    }
}

void net_stats(uint64_t *sent, uint64_t *received)
{
    *sent = n_sent;
    *received = n_received;
}

bool net_returned(unsigned nic, unsigned cpu, uint64_t *frames)
{
    if (nic >= n_nics || cpu >= n_cpus) {
        return false;
    }
    *frames = all[nic].returned[cpu];
    return true;
}
