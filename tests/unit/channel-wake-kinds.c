/*
 * Tests for channels that can be woken up: what they can lie on
 *
 * Every kind of descriptor has to carry a stream, let a writer go whose reader
 * stalls, and leave the mode alone that others share. Some of them are written
 * by a thread, which must not lose, double or reorder anything.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <termios.h>
#include "channel-wake-rig.h"
#include "io/channel-file.h"
#include "qapi/error.h"
#include "qemu/coroutine.h"
#include "qemu/main-loop.h"
#ifdef CONFIG_LINUX
#include <linux/userfaultfd.h>
#include "qemu/userfaultfd.h"
#endif

/* More than a pipe, and what a thread buffers, have room for */
#define STREAM_SIZE (4 * MIB)

/* What is put by the channel is not written in larger pieces */
#define PIECE_SIZE (256 * 1024)

/* Is put on fds[1]; who has fds[0] is its peer */
typedef struct Kind {
    const char *name;
    void (*open)(int *fds);
    QIOChannelWake *(*wake)(int fd);
    bool socket;
} Kind;

static void open_fifo(int *fds)
{
    g_autofree char *dir = g_dir_make_tmp("test-channel-wake-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "fifo", NULL);

    g_assert_cmpint(mkfifo(path, 0600), ==, 0);
    fds[0] = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    fds[1] = open(path, O_WRONLY | O_CLOEXEC);
    g_assert_cmpint(fds[1], >=, 0);
    g_unix_set_fd_nonblocking(fds[0], false, NULL);
    unlink(path);
    rmdir(dir);
}

static void open_foreign_pipe(int *fds)
{
    new_pipe(fds);
    make_foreign(fds[1]);
}

/* Set by somebody who expects EAGAIN: this is not changed either */
static void open_foreign_nonblocking(int *fds)
{
    open_foreign_pipe(fds);
    g_unix_set_fd_nonblocking(fds[1], true, NULL);
}

static void open_terminal(int *fds)
{
    struct termios raw;

    fds[0] = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    g_assert_cmpint(fds[0], >=, 0);
    g_assert_cmpint(grantpt(fds[0]), ==, 0);
    g_assert_cmpint(unlockpt(fds[0]), ==, 0);
    fds[1] = open(ptsname(fds[0]), O_RDWR | O_NOCTTY | O_CLOEXEC);
    g_assert_cmpint(fds[1], >=, 0);
    g_assert_cmpint(tcgetattr(fds[1], &raw), ==, 0);
    cfmakeraw(&raw);
    g_assert_cmpint(tcsetattr(fds[1], TCSANOW, &raw), ==, 0);
}

static QIOChannelWake *wake_on_foreign(int fd)
{
    return wake_as_stranger(QIO_CHANNEL(qio_channel_file_new_fd(fd)));
}

static QIOChannelWake *wake_on_socket(int fd)
{
    return wake_on(new_socket(fd));
}

static const Kind kinds[] = {
    { "pipe", new_pipe, wake_on_fd },
    { "fifo", open_fifo, wake_on_fd },
    { "foreign-pipe", open_foreign_pipe, wake_on_foreign },
    { "foreign-nonblocking", open_foreign_nonblocking, wake_on_foreign },
    { "terminal", open_terminal, wake_on_fd },
    { "socket", new_socketpair, wake_on_socket, .socket = true },
};

static int drain(QIOChannelWake *wioc)
{
    return qio_channel_wake_drain(wioc, -1, &error_abort);
}

/* All arrives, in order; both ends are channels */
static void test_stream(const Kind *kind)
{
    QIOChannelWake *in, *out;
    Job reader, writer;
    int fds[2];

    kind->open(fds);
    out = kind->wake(fds[1]);
    in = kind->wake(fds[0]);
    job_start(&writer, write_job, out, STREAM_SIZE);
    job_start(&reader, read_job, in, STREAM_SIZE);
    job_join(&writer);
    g_assert_cmpint(writer.done, ==, STREAM_SIZE);
    g_assert_cmpint(drain(out), ==, 1);
    job_join(&reader);
    g_assert_cmpint(reader.done, ==, STREAM_SIZE);
    close_and_unref(out);
    close_and_unref(in);
}

static void fill_up(int fd)
{
    bool nonblocking = is_nonblocking(fd);
    char buf[512] = "";

    g_unix_set_fd_nonblocking(fd, true, NULL);
    while (write(fd, buf, sizeof(buf)) > 0) {
        continue;
    }
    g_unix_set_fd_nonblocking(fd, nonblocking, NULL);
}

/*
 * A reader that stalls. A writer that is in write() itself never comes back; if
 * its thread is not brought out of it, or does not look whether it was
 * abandoned, that thread does not end before the reader does. A write() that
 * has got nowhere would be restarted after a signal if the handler let it.
 */
static void do_test_stalled(const Kind *kind, bool full)
{
    unsigned threads = count_threads();
    QIOChannelWake *wioc;
    Error *err = NULL;
    Job job;
    int fds[2];

    kind->open(fds);
    if (full) {
        fill_up(fds[1]);
    }
    wioc = kind->wake(fds[1]);
    job_start(&job, write_job, wioc, STREAM_SIZE);
    job_wait_asleep(&job);
    shut(wioc);
    job_join(&job);
    g_assert_cmpint(job.done, <, STREAM_SIZE);
    g_assert_cmpint(job.last, ==, -1);
    g_assert_cmpstr(job.error, ==, "Channel was shut down");
    job_clear(&job);
    g_assert_cmpint(qio_channel_wake_drain(wioc, -1, &err), ==, -1);
    error_free_or_abort(&err);

    close_and_unref(wioc);
    while (count_threads() != threads) {
        g_usleep(1000);
    }
    close(fds[0]);
}

static void test_stalled(const Kind *kind)
{
    do_test_stalled(kind, false);
    do_test_stalled(kind, true);
}

/* As above, for who reads */
static void test_idle(const Kind *kind)
{
    QIOChannelWake *wioc;
    Job job;
    int fds[2];

    kind->open(fds);
    wioc = kind->wake(fds[0]);
    job_start(&job, read_job, wioc, 1);
    job_wait_asleep(&job);
    shut(wioc);
    job_join(&job);
    g_assert_cmpint(job.last, ==, 0);
    close_and_unref(wioc);
    close(fds[1]);
}

/* One who has the same descriptor and knows nothing of all this */
typedef struct Other {
    int fd;
    bool reads;             /* to the end; else writes, with one call */

    QemuThread thread;
    int tid;                /* atomic */
    size_t done;            /* when it was joined */
} Other;

static void *other_thread(void *opaque)
{
    Other *other = opaque;
    g_autofree char *buf = g_malloc0(STREAM_SIZE);
    ssize_t ret;

    qatomic_set(&other->tid, qemu_get_thread_id());
    if (!other->reads) {
        other->done = write(other->fd, buf, STREAM_SIZE);
        return NULL;
    }
    while ((ret = read(other->fd, buf, STREAM_SIZE)) > 0) {
        other->done += ret;
    }
    /* A terminal that nobody has open any more */
    g_assert_true(ret == 0 || errno == EIO);
    return NULL;
}

static void other_start(Other *other, int fd, bool reads)
{
    *other = (Other) { .fd = fd, .reads = reads };
    qemu_thread_create(&other->thread, "other", other_thread, other,
                       QEMU_THREAD_JOINABLE);
}

/*
 * Another one sits in a write() that blocks, before the channel comes and after
 * it has gone. If the mode was changed meanwhile, that write() is told EAGAIN,
 * or ends early, even if the assertions on the mode do not see it.
 */
static void test_shared(const Kind *kind)
{
    QIOChannelWake *wioc;
    Other writer, reader;
    int fds[2], shared, mode;
    Job job;

    kind->open(fds);
    shared = dup(fds[1]);
    mode = fcntl(shared, F_GETFL);
    other_start(&writer, shared, false);
    wait_asleep(&writer.tid);

    wioc = kind->wake(fds[1]);
    g_assert_cmpint(fcntl(shared, F_GETFL), ==, mode);
    job_start(&job, write_job, wioc, STREAM_SIZE);
    job_wait_asleep(&job);
    g_assert_cmpint(fcntl(shared, F_GETFL), ==, mode);

    other_start(&reader, fds[0], true);
    job_join(&job);
    g_assert_cmpint(job.done, ==, STREAM_SIZE);
    g_assert_cmpint(drain(wioc), ==, 1);
    close_and_unref(wioc);
    qemu_thread_join(&writer.thread);
    g_assert_cmpint(writer.done, ==, STREAM_SIZE);
    g_assert_cmpint(fcntl(shared, F_GETFL), ==, mode);

    close(shared);
    qemu_thread_join(&reader.thread);
    g_assert_cmpint(reader.done, ==, 2 * STREAM_SIZE);
    close(fds[0]);
}

static bool is_blocking(const Kind *kind)
{
    return kind->open != open_foreign_nonblocking;
}

static void for_each_kind(void (*test)(const Kind *kind), bool shared)
{
    for (int i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (!shared || is_blocking(&kinds[i])) {
            g_test_message("%s", kinds[i].name);
            test(&kinds[i]);
        }
    }
}

static void test_streams(void)
{
    for_each_kind(test_stream, false);
}

static void test_all_stalled(void)
{
    for_each_kind(test_stalled, false);
}

static void test_all_idle(void)
{
    for_each_kind(test_idle, false);
}

static void test_all_shared(void)
{
    for_each_kind(test_shared, true);
}

/* Of a pair, too, one half is written by a thread and the other one is read */
static void test_halves(void)
{
    QIOChannelWake *in, *out;
    QIOChannel *master;
    int fds[2];
    char c;
    Job job;

    open_terminal(fds);
    master = QIO_CHANNEL(qio_channel_file_new_fd(fds[1]));
    g_assert_true(qio_channel_wake_new_pair(master, &in, &out, &error_abort));
    object_unref(OBJECT(master));
    job_start(&job, read_job, in, 1);
    job_wait_asleep(&job);
    g_assert_cmpint(qio_channel_write(QIO_CHANNEL(out), "x", 1, &error_abort),
                    ==, 1);
    g_assert_cmpint(read(fds[0], &c, 1), ==, 1);
    g_assert_cmpint(c, ==, 'x');

    /* The thread goes on until both are shut down */
    shut(in);
    job_join(&job);
    g_assert_cmpint(qio_channel_write(QIO_CHANNEL(out), "y", 1, &error_abort),
                    ==, 1);
    g_assert_cmpint(read(fds[0], &c, 1), ==, 1);
    g_assert_cmpint(c, ==, 'y');
    close_and_unref(in);
    close_and_unref(out);
    close(fds[0]);
}

/*
 * The answers of drain and wait, with a thread that is in write(): there is
 * room as long as there is a buffer, and nothing is written before it is read.
 */
static void test_drain(void)
{
    g_autofree char *buf = g_malloc0(MIB);
    QIOChannelWake *wioc;
    Error *err = NULL;
    size_t put = 0;
    ssize_t ret;
    Other reader;
    int fds[2];

    open_foreign_pipe(fds);
    wioc = wake_on_foreign(fds[1]);
    qio_channel_set_blocking(QIO_CHANNEL(wioc), false, &error_abort);
    g_assert_cmpint(drain(wioc), ==, 1);
    g_assert_cmpint(qio_channel_wake_wait(wioc, G_IO_OUT, -1), ==, 1);
    g_assert_cmpint(wait_for_watch(wioc, G_IO_OUT), ==, G_IO_OUT);

    /* No room for some time: the thread has taken one buffer */
    while (qio_channel_wake_wait(wioc, G_IO_OUT, 50)) {
        ret = qio_channel_write(QIO_CHANNEL(wioc), buf, MIB, &error_abort);
        put += ret > 0 ? ret : 0;
    }
    g_assert_cmpint(put, ==, 2 * PIECE_SIZE);
    g_assert_cmpint(qio_channel_write(QIO_CHANNEL(wioc), buf, 1, &error_abort),
                    ==, QIO_CHANNEL_ERR_BLOCK);
    g_assert_cmpint(qio_channel_wake_drain(wioc, 0, &error_abort), ==, 0);
    g_assert_cmpint(qio_channel_wake_drain(wioc, 30, &error_abort), ==, 0);

    other_start(&reader, fds[0], true);
    g_assert_cmpint(qio_channel_wake_wait(wioc, G_IO_OUT, -1), ==, 1);
    g_assert_cmpint(drain(wioc), ==, 1);
    shut(wioc);
    g_assert_cmpint(qio_channel_wake_wait(wioc, G_IO_OUT, -1), ==, -1);
    g_assert_cmpint(qio_channel_wake_drain(wioc, -1, &err), ==, -1);
    error_free_or_abort(&err);
    close_and_unref(wioc);
    qemu_thread_join(&reader.thread);
    g_assert_cmpint(reader.done, ==, put);
    close(fds[0]);
}

static void *drain_job(void *opaque)
{
    Job *job = opaque;
    Error *err = NULL;

    qatomic_set(&job->tid, qemu_get_thread_id());
    job->last = qio_channel_wake_drain(QIO_CHANNEL_WAKE(job->ioc), -1, &err);
    job->error = g_strdup(error_get_pretty(err));
    error_free(err);
    return NULL;
}

/*
 * Who waits for all to be written is woken up by a shutdown, and an error. The
 * last piece is with the thread, or still in the other buffer.
 */
static void test_drain_woken(void)
{
    for (int shuts = 0; shuts < 2; shuts++) {
        QIOChannelWake *wioc;
        int fds[2];
        Job job;

        open_foreign_pipe(fds);
        wioc = wake_on_foreign(fds[1]);
        job_start(&job, write_job, wioc, (shuts ? 1 : 2) * PIECE_SIZE);
        job_join(&job);
        job_start(&job, drain_job, wioc, 0);
        job_wait_asleep(&job);
        if (shuts) {
            shut(wioc);
        } else {
            close(fds[0]);
        }
        job_join(&job);
        g_assert_cmpint(job.last, ==, -1);
        g_assert_nonnull(strstr(job.error, shuts ? "shut down"
                                                 : "Broken pipe"));
        job_clear(&job);
        close_and_unref(wioc);
        if (shuts) {
            close(fds[0]);
        }
    }
}

/* An error comes late, but it comes, wakes up who waits, and stays */
static void test_error(void)
{
    QIOChannelWake *wioc;
    Error *err = NULL;
    Job job;
    int fds[2];

    wioc = wake_on_fd(open("/dev/full", O_WRONLY | O_CLOEXEC));
    job_start(&job, write_job, wioc, STREAM_SIZE);
    job_join(&job);
    g_assert_cmpint(job.last, ==, -1);
    g_assert_nonnull(strstr(job.error, "No space left"));
    job_clear(&job);
    g_assert_cmpint(qio_channel_wake_drain(wioc, -1, &err), ==, -1);
    g_assert_nonnull(strstr(error_get_pretty(err), "No space left"));
    error_free_or_abort(&err);
    close_and_unref(wioc);

    open_foreign_pipe(fds);
    wioc = wake_on_foreign(fds[1]);
    job_start(&job, write_job, wioc, STREAM_SIZE);
    job_wait_asleep(&job);
    close(fds[0]);
    job_join(&job);
    g_assert_cmpint(job.last, ==, -1);
    g_assert_nonnull(strstr(job.error, "Broken pipe"));
    job_clear(&job);
    close_and_unref(wioc);
}

static void coroutine_fn write_in_coroutine(void *opaque)
{
    Job *job = opaque;
    g_autofree char *buf = g_malloc0(STREAM_SIZE);

    g_assert_cmpint(qio_channel_write_all(job->ioc, buf, STREAM_SIZE,
                                          &error_abort), ==, 0);
    job->done = STREAM_SIZE;
}

/* It yields until the thread has room. Else it is told to poll for ever. */
static void test_coroutine(void)
{
    QIOChannelWake *wioc;
    Other reader;
    int fds[2];
    Job job;

    open_foreign_pipe(fds);
    wioc = wake_on_foreign(fds[1]);
    job = (Job) { .ioc = QIO_CHANNEL(wioc) };
    qemu_coroutine_enter(qemu_coroutine_create(write_in_coroutine, &job));
    g_assert_cmpint(job.done, ==, 0);
    other_start(&reader, fds[0], true);
    while (!job.done) {
        main_loop_wait(false);
    }
    close_and_unref(wioc);
    qemu_thread_join(&reader.thread);
    g_assert_cmpint(reader.done, ==, STREAM_SIZE);
    close(fds[0]);
}

typedef struct TempFile {
    char *path;
    int fd;                 /* given to the channel */
} TempFile;

static void open_file(TempFile *file)
{
    file->fd = g_file_open_tmp("test-channel-wake-XXXXXX", &file->path, NULL);
    g_assert_cmpint(file->fd, >=, 0);
}

static void remove_file(TempFile *file)
{
    unlink(file->path);
    g_free(file->path);
}

static size_t file_size(TempFile *file)
{
    struct stat st;

    g_assert_cmpint(stat(file->path, &st), ==, 0);
    return st.st_size;
}

static void assert_content(TempFile *file, size_t size)
{
    QIOChannel *ioc = QIO_CHANNEL(
        qio_channel_file_new_path(file->path, O_RDONLY, 0, &error_abort));
    Job job;

    g_assert_cmpint(file_size(file), ==, size);
    job_start(&job, read_job, ioc, size);
    job_join(&job);
    g_assert_cmpint(job.done, ==, size);
    close_and_unref(ioc);
}

static void write_crumbs(QIOChannelWake *wioc, size_t size)
{
    uint8_t buf[777];
    size_t done = 0;

    while (done < size) {
        size_t n = MIN(sizeof(buf), size - done);

        for (size_t i = 0; i < n; i++) {
            buf[i] = pattern(done + i);
        }
        g_assert_cmpint(qio_channel_write_all(QIO_CHANNEL(wioc), (char *)buf,
                                              n, &error_abort), ==, 0);
        done += n;
    }
}

/* What was put before an orderly close is written, drained or not */
static void test_file(void)
{
    for (int drained = 0; drained < 2; drained++) {
        QIOChannelWake *wioc;
        TempFile file;
        Error *err = NULL;
        Job job;
        char c;

        open_file(&file);
        wioc = wake_on_fd(file.fd);
        g_assert_cmpint(qio_channel_read(QIO_CHANNEL(wioc), &c, 1, &err), ==,
                        -1);
        error_free_or_abort(&err);
        if (drained) {
            write_crumbs(wioc, STREAM_SIZE + 1);
        } else {
            job_start(&job, write_job, wioc, STREAM_SIZE + 1);
            job_join(&job);
        }
        if (drained) {
            g_assert_cmpint(drain(wioc), ==, 1);
            assert_content(&file, STREAM_SIZE + 1);
        }
        close_and_unref(wioc);
        g_assert_false(drained && qio_channel_wake_writer_is_stuck());
        while (qio_channel_wake_writer_is_stuck()) {
            g_usleep(1000);
        }
        assert_content(&file, STREAM_SIZE + 1);
        remove_file(&file);
    }
}

#ifdef CONFIG_LINUX
/*
 * A disk that does not answer: somebody else is in the middle of a write to the
 * same file, with its lock held, and its data is not there yet. Who comes then
 * is in state D, which no signal ends.
 */
typedef struct Freeze {
    int file_fd;
    int uffd;
    void *page;

    QemuThread thread;
    int tid;                /* atomic */
} Freeze;

static void *freeze_thread(void *opaque)
{
    Freeze *freeze = opaque;

    qatomic_set(&freeze->tid, qemu_get_thread_id());
    g_assert_cmpint(pwrite(freeze->file_fd, freeze->page,
                           qemu_real_host_page_size(), 0), ==,
                    qemu_real_host_page_size());
    return NULL;
}

static bool freeze_file(Freeze *freeze, TempFile *file)
{
    size_t size = qemu_real_host_page_size();
    uint64_t ioctls;

    freeze->tid = 0;
    freeze->uffd = uffd_create_fd(0, false);
    if (freeze->uffd < 0) {
        return false;
    }
    freeze->file_fd = open(file->path, O_WRONLY | O_CLOEXEC);
    g_assert_cmpint(freeze->file_fd, >=, 0);
    freeze->page = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_cmpint(uffd_register_memory(freeze->uffd, freeze->page, size,
                                         UFFDIO_REGISTER_MODE_MISSING,
                                         &ioctls), ==, 0);
    qemu_thread_create(&freeze->thread, "freeze", freeze_thread, freeze,
                       QEMU_THREAD_JOINABLE);
    wait_asleep(&freeze->tid);
    return true;
}

static void thaw_file(Freeze *freeze)
{
    size_t size = qemu_real_host_page_size();

    uffd_zero_page(freeze->uffd, freeze->page, size, false);
    qemu_thread_join(&freeze->thread);
    uffd_close_fd(freeze->uffd);
    munmap(freeze->page, size);
    close(freeze->file_fd);
}

/*
 * Nobody waits for the disk: not who writes, not close. It can be asked whether
 * a write is still to be feared; of what was put, one piece at most comes late.
 * After an orderly close everything comes late.
 */
static void do_test_frozen(bool shuts)
{
    size_t size = shuts ? STREAM_SIZE : PIECE_SIZE;
    QIOChannelWake *wioc;
    TempFile file;
    Freeze freeze;
    Job job;

    open_file(&file);
    if (!freeze_file(&freeze, &file)) {
        g_test_skip("no userfaultfd");
        close(file.fd);
        remove_file(&file);
        return;
    }
    wioc = wake_on_fd(file.fd);
    job_start(&job, write_job, wioc, size);
    if (shuts) {
        /* There was room for this only when the thread had begun to write */
        while (qatomic_read(&job.done) < 2 * PIECE_SIZE) {
            g_usleep(1000);
        }
        g_assert_false(qio_channel_wake_writer_is_stuck());
        shut(wioc);
        g_assert_true(qio_channel_wake_writer_is_stuck());
    }
    job_join(&job);
    job_clear(&job);
    close_and_unref(wioc);
    g_assert_true(qio_channel_wake_writer_is_stuck());
    g_usleep(100 * 1000);                   /* kicks change nothing */
    g_assert_true(qio_channel_wake_writer_is_stuck());
    g_assert_cmpint(file_size(&file), ==, 0);

    thaw_file(&freeze);
    while (qio_channel_wake_writer_is_stuck()) {
        g_usleep(1000);
    }
    if (shuts) {
        g_assert_cmpint(file_size(&file), <=, PIECE_SIZE);
    } else {
        g_assert_cmpint(file_size(&file), ==, size);
    }
    remove_file(&file);
}

/* The first time, a device is opened for good */
static void open_uffd_device(void)
{
    int fd = uffd_create_fd(0, false);

    if (fd >= 0) {
        uffd_close_fd(fd);
    }
}

static void test_frozen(void)
{
    do_test_frozen(true);
    do_test_frozen(false);
}
#endif

void channel_wake_add_kinds_tests(void)
{
    static const struct {
        const char *path;
        TestFunc *func;
    } tests[] = {
        { "/channel-wake/kinds/stream", test_streams },
        { "/channel-wake/kinds/stalled", test_all_stalled },
        { "/channel-wake/kinds/idle", test_all_idle },
        { "/channel-wake/kinds/shared", test_all_shared },
        { "/channel-wake/writer/halves", test_halves },
        { "/channel-wake/writer/drain", test_drain },
        { "/channel-wake/writer/drain-woken", test_drain_woken },
        { "/channel-wake/writer/error", test_error },
        { "/channel-wake/writer/coroutine", test_coroutine },
        { "/channel-wake/writer/file", test_file },
#ifdef CONFIG_LINUX
        { "/channel-wake/writer/frozen-file", test_frozen },
#endif
    };

#ifdef CONFIG_LINUX
    open_uffd_device();
#endif
    for (int i = 0; i < ARRAY_SIZE(tests); i++) {
        g_test_add_data_func(tests[i].path, tests[i].func, run_test);
    }
}
