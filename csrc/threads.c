/* threads.c: the thread pool behind ds_parallel.
 *
 * Worker p runs part p of every piece of work, so that a part's share of the weights stays in the
 * cache of one core.  All that passes between a caller and a worker goes through the worker's
 * `state`, with the work beside it on the same cache line:
 *
 *     FREE    -> POSTED   the caller has work                 (ASLEEP -> POSTED wakes the worker)
 *     POSTED  -> TAKEN    the worker runs its part
 *     POSTED  -> FREE     the caller was there first, and runs the part itself
 *     TAKEN   -> FREE     the part is done                    (AWAITED -> FREE wakes the caller)
 *     FREE    -> ASLEEP   the worker has polled long enough and parks
 *     TAKEN   -> AWAITED  the caller has polled long enough and parks
 *
 * Who waits polls for a while, because the next part of a training step is microseconds away and
 * waking a thread costs tens of them; then it yields between polls, in case the other side needs
 * this core; then it parks and costs nothing.  A caller never waits for a worker that has not
 * begun: with parked workers or too few cores it does the work alone, hardly later than with no
 * pool at all.
 *
 * One caller at a time owns the pool; any other, a task that calls ds_parallel included, runs its
 * parts itself.  A forked child owns nothing and has no workers; its handler says so, and a worker
 * is set up from nothing when it is made, so fork never waits and nothing the parent's threads
 * were doing matters.  (Except that a task itself may not fork.) */
#define _GNU_SOURCE /* for what <sched.h> tells of cores */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "downslope.h"

enum {
  CACHE_LINE = 64,
  STACK_BYTES = 512 * 1024,
  POLLS = 16,         /* between two looks at the clock */
  YIELD_AFTER = 5000, /* nanoseconds */
  PARK_AFTER = 50000,
};

enum { FREE, ASLEEP, POSTED, TAKEN, AWAITED };

typedef struct worker {
  _Alignas(CACHE_LINE) _Atomic int state;
  int parts;
  ds_task_fn task;
  void *context;
  pthread_mutex_t mutex; /* for parking only: from ASLEEP or AWAITED until `changed` */
  pthread_cond_t changed;
  int wakers_core; /* or NO_CORE; under the mutex */
} worker;

static worker workers[DS_MAX_THREADS]; /* workers[0] stands for the caller and is not used */
static _Atomic int worker_count;
static _Atomic int in_use;
static _Atomic int default_threads;
static int most_workers; /* 0 unless the fork handler is in place */

/* ---- Cores ---- */

enum { NO_CORE = -1 };

/* A scheduler may wake a worker on the very core of its caller.  Linux does in virtual machines,
 * where a core at rest may count as one that the host has taken away (vcpu_is_preempted).  The
 * caller does not wait for a worker that has not begun, so this one would find nothing to do, and
 * park, again and again, beside an idle core.  So it leaves for another of those it may use. */
#ifdef __linux__
static int this_core(void) { return sched_getcpu(); }

static void leave_core(int core) {
  cpu_set_t allowed, others;
  if (core == NO_CORE || core != this_core()) return;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  others = allowed;
  CPU_CLR(core, &others);
  if (CPU_COUNT(&others) > 0 && sched_setaffinity(0, sizeof others, &others) == 0) {
    sched_setaffinity(0, sizeof allowed, &allowed);
  }
}
#else
static int this_core(void) { return NO_CORE; }
static void leave_core(int core) { (void)core; }
#endif

/* ---- Waiting ---- */

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb"); /* `yield` does nothing on most cores */
#endif
}

static int64_t nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int state_of(worker *w) {
  return atomic_load_explicit(&w->state, memory_order_acquire);
}

static inline int change_state(worker *w, int from, int to) {
  return atomic_compare_exchange_strong_explicit(&w->state, &from, to, memory_order_acq_rel,
                                                 memory_order_acquire);
}

/* Return once w's state is no longer `state`; `parked` tells the other side to wake us.  Returns
 * the core of who did, or NO_CORE. */
static int wait_while(worker *w, int state, int parked) {
  int64_t start = nanoseconds(), elapsed;
  do {
    for (int poll = 0; poll < POLLS; ++poll) {
      if (state_of(w) != state) return NO_CORE;
      relax();
    }
    elapsed = nanoseconds() - start;
    if (elapsed > YIELD_AFTER) sched_yield();
  } while (elapsed < PARK_AFTER);

  int core = NO_CORE;
  pthread_mutex_lock(&w->mutex);
  if (change_state(w, state, parked)) {
    while (state_of(w) == parked) {
      pthread_cond_wait(&w->changed, &w->mutex);
      core = w->wakers_core;
    }
  }
  pthread_mutex_unlock(&w->mutex);
  return core;
}

/* Returns whether that woke the other side. */
static int set_state(worker *w, int state) {
  int before = atomic_exchange_explicit(&w->state, state, memory_order_acq_rel);
  int parked = before == ASLEEP || before == AWAITED;
  if (parked) {
    pthread_mutex_lock(&w->mutex);
    w->wakers_core = this_core();
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->mutex);
  }
  return parked;
}

/* ---- Workers ---- */

static void *work(void *argument) {
  worker *self = argument;
  for (;;) {
    leave_core(wait_while(self, FREE, ASLEEP));
    if (change_state(self, POSTED, TAKEN)) {
      self->task(self->context, (int)(self - workers), self->parts);
      set_state(self, FREE);
    }
  }
  return NULL;
}

/* Returns 0, or an error number.  Workers take no signals, so that Ctrl-C reaches the main thread,
 * except those of a fault of their own, which must reach the debugger or Python's faulthandler. */
static int start_worker(worker *w) {
  static const int faults[] = {SIGBUS, SIGFPE, SIGILL, SIGSEGV};
  pthread_t thread;
  pthread_attr_t attributes;
  sigset_t blocked, callers;

  int error = pthread_attr_init(&attributes);
  if (error) return error;
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, STACK_BYTES);
  pthread_mutex_init(&w->mutex, NULL);
  pthread_cond_init(&w->changed, NULL);
  atomic_store_explicit(&w->state, FREE, memory_order_relaxed);

  sigfillset(&blocked);
  for (size_t i = 0; i < sizeof faults / sizeof *faults; ++i) sigdelset(&blocked, faults[i]);
  pthread_sigmask(SIG_SETMASK, &blocked, &callers);
  error = pthread_create(&thread, &attributes, work, w);
  pthread_sigmask(SIG_SETMASK, &callers, NULL);
  pthread_attr_destroy(&attributes);
  return error;
}

/* Make workers until there are `wanted`; returns how many of them there are. */
static int get_workers(int wanted) {
  int count = ds_pool_size();
  if (wanted > most_workers) wanted = most_workers;
  while (count < wanted && start_worker(&workers[count + 1]) == 0) {
    atomic_store_explicit(&worker_count, ++count, memory_order_relaxed);
  }
  return count < wanted ? count : wanted;
}

/* Returns whether the worker had to be woken. */
static int post(worker *w, ds_task_fn task, void *context, int parts) {
  w->task = task;
  w->context = context;
  w->parts = parts;
  return set_state(w, POSTED);
}

/* ---- The pool ---- */

static void reset_after_fork(void) {
  atomic_store_explicit(&worker_count, 0, memory_order_relaxed);
  atomic_store_explicit(&in_use, 0, memory_order_relaxed);
}

/* When the library is loaded: any later, another thread could fork at just that moment. */
__attribute__((constructor)) static void install_fork_handler(void) {
  if (pthread_atfork(NULL, NULL, reset_after_fork) == 0) most_workers = DS_MAX_THREADS - 1;
}

static int acquire_pool(void) {
  return !atomic_exchange_explicit(&in_use, 1, memory_order_acquire);
}

static void release_pool(void) { atomic_store_explicit(&in_use, 0, memory_order_release); }

static void run_parts(ds_task_fn task, void *context, int first, int parts) {
  for (int part = first; part < parts; ++part) task(context, part, parts);
}

void ds_parallel(ds_task_fn task, void *context, int parts) {
  if (parts < 2 || !acquire_pool()) {
    run_parts(task, context, 0, parts);
    return;
  }
  int helpers = get_workers(parts - 1), woken = 0;
  for (int p = 1; p <= helpers; ++p) woken += post(&workers[p], task, context, parts);
  if (woken) sched_yield(); /* one of them may be on this core, and leaves it */
  task(context, 0, parts);
  run_parts(task, context, helpers + 1, parts);
  /* Backwards: the last to be woken are the least likely to have begun. */
  for (int p = helpers; p > 0; --p) {
    if (change_state(&workers[p], POSTED, FREE)) task(context, p, parts);
  }
  for (int p = 1; p <= helpers; ++p) wait_while(&workers[p], TAKEN, AWAITED);
  release_pool();
}

int downslope_get_num_threads(void) {
  return atomic_load_explicit(&default_threads, memory_order_relaxed);
}

void downslope_set_num_threads(int threads) {
  atomic_store_explicit(&default_threads, threads, memory_order_relaxed);
}

int ds_pool_size(void) { return atomic_load_explicit(&worker_count, memory_order_relaxed); }
