/*
 * For ThreadSanitizer builds: whose mutex it is, if a coroutine locks it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * scripts/build-qemu has this included by every file.  Those that configure
 * tries things out with see nothing of it.
 *
 * For ThreadSanitizer a coroutine is a thread of its own ("fiber").  But some
 * give up a mutex which their caller took: while an incoming migration is
 * loaded, this happens to the BQL.  ThreadSanitizer says so once and then takes
 * that mutex for locked by nobody in particular, so that everything that the
 * BQL protects is a data race from then on.
 *
 * Therefore let mutexes be locked and unlocked by the thread that a coroutine
 * runs in.  What one of them did happens before what the other one does next,
 * which is what __tsan_switch_to_fiber() is told by the flag 0.
 */

#if !defined(TSAN_FIBERS_H) && __has_include("qemu/osdep.h")
#define TSAN_FIBERS_H

#include <pthread.h>
#include <sanitizer/tsan_interface.h>

#define TSAN_FIBERS_INLINE static inline __attribute__((always_inline))

/* No thread enters a coroutine before it has locked a mutex. */
static __thread void *tsan_fibers_thread;

TSAN_FIBERS_INLINE void *tsan_fibers_leave_coroutine(void)
{
    void *fiber = __tsan_get_current_fiber();

    if (!tsan_fibers_thread) {
        tsan_fibers_thread = fiber;
    }
    if (fiber != tsan_fibers_thread) {
        __tsan_switch_to_fiber(tsan_fibers_thread, 0);
    }
    return fiber;
}

TSAN_FIBERS_INLINE void tsan_fibers_enter_coroutine(void *fiber)
{
    if (fiber != tsan_fibers_thread) {
        __tsan_switch_to_fiber(fiber, 0);
    }
}

#define TSAN_FIBERS_WRAP(func)                                          \
    TSAN_FIBERS_INLINE int tsan_fibers_ ## func(pthread_mutex_t *mutex) \
    {                                                                   \
        void *fiber = tsan_fibers_leave_coroutine();                    \
        int ret = func(mutex);                                          \
                                                                        \
        tsan_fibers_enter_coroutine(fiber);                             \
        return ret;                                                     \
    }

TSAN_FIBERS_WRAP(pthread_mutex_lock)
TSAN_FIBERS_WRAP(pthread_mutex_trylock)
TSAN_FIBERS_WRAP(pthread_mutex_unlock)

/* To wait for a condition is to unlock the mutex, and to lock it again. */
TSAN_FIBERS_INLINE int tsan_fibers_pthread_cond_wait(pthread_cond_t *cond,
                                                     pthread_mutex_t *mutex)
{
    void *fiber = tsan_fibers_leave_coroutine();
    int ret = pthread_cond_wait(cond, mutex);

    tsan_fibers_enter_coroutine(fiber);
    return ret;
}

TSAN_FIBERS_INLINE int
tsan_fibers_pthread_cond_timedwait(pthread_cond_t *cond,
                                   pthread_mutex_t *mutex,
                                   const struct timespec *deadline)
{
    void *fiber = tsan_fibers_leave_coroutine();
    int ret = pthread_cond_timedwait(cond, mutex, deadline);

    tsan_fibers_enter_coroutine(fiber);
    return ret;
}

#define pthread_mutex_lock tsan_fibers_pthread_mutex_lock
#define pthread_mutex_trylock tsan_fibers_pthread_mutex_trylock
#define pthread_mutex_unlock tsan_fibers_pthread_mutex_unlock
#define pthread_cond_wait tsan_fibers_pthread_cond_wait
#define pthread_cond_timedwait tsan_fibers_pthread_cond_timedwait

#endif /* !TSAN_FIBERS_H */
