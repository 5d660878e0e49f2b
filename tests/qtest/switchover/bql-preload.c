/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: makes a VM state change worker take the BQL
 *
 * To be preloaded (LD_PRELOAD) by QEMU.  A worker talks to backends by
 * sendmsg() and recvmsg().  The first of these that is called on a thread which
 * is named like a worker ("vmstate/0", with -name debug-threads=on) calls
 * QEMU's bql_lock_impl() first, as some code that the worker happens upon
 * would.
 *
 * QEMU does not offer its symbols to be linked to, so the function is looked up
 * in the symbol table of its file.
 */

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

typedef void BqlLock(const char *file, int line);

/* The main program is listed first */
static int note_base(struct dl_phdr_info *info, size_t size, void *opaque)
{
    *(uintptr_t *)opaque = info->dlpi_addr;
    return 1;
}

static uintptr_t find_in_table(const char *elf, const Elf64_Shdr *table,
                               const Elf64_Shdr *strings, const char *name)
{
    const Elf64_Sym *sym = (const Elf64_Sym *)(elf + table->sh_offset);
    size_t n = table->sh_size / sizeof(*sym);

    for (size_t i = 0; i < n; i++) {
        if (sym[i].st_value &&
            !strcmp(elf + strings->sh_offset + sym[i].st_name, name)) {
            return sym[i].st_value;
        }
    }
    return 0;
}

static uintptr_t find_in_file(const char *elf, const char *name)
{
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)elf;
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(elf + header->e_shoff);

    for (int i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type == SHT_SYMTAB) {
            return find_in_table(elf, &sections[i],
                                 &sections[sections[i].sh_link], name);
        }
    }
    return 0;
}

static BqlLock *find_bql_lock(void)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    uintptr_t base = 0, offset = 0;
    struct stat st;
    char *elf;

    if (fd >= 0 && fstat(fd, &st) == 0) {
        elf = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (elf != MAP_FAILED) {
            offset = find_in_file(elf, "bql_lock_impl");
        }
    }
    dl_iterate_phdr(note_base, &base);
    return offset ? (BqlLock *)(base + offset) : NULL;
}

static void take_bql_on_worker(void)
{
    char name[16] = "";
    BqlLock *lock;

    if (pthread_getname_np(pthread_self(), name, sizeof(name)) ||
        strncmp(name, "vmstate/", strlen("vmstate/"))) {
        return;
    }
    lock = find_bql_lock();
    if (lock) {
        lock(__FILE__, __LINE__);
    }
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    ssize_t (*real)(int fd, const struct msghdr *msg, int flags) =
        dlsym(RTLD_NEXT, "sendmsg");

    take_bql_on_worker();
    return real(fd, msg, flags);
}

ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
    ssize_t (*real)(int fd, struct msghdr *msg, int flags) =
        dlsym(RTLD_NEXT, "recvmsg");

    take_bql_on_worker();
    return real(fd, msg, flags);
}
