/* pool.c: the thread pool under several callers, with nested work, long pauses and forks.
 *
 * Every part of every piece of work must run exactly once, and be over when ds_parallel returns.
 * sanitize.sh compiles it with sanitizers, which see the rest: data races, memory errors. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../include/downslope.h"

enum { CALLERS = 4, ROUNDS = 1500, MOST_PARTS = 5, FORKS = 5, MOST_PAUSE = 300 /* microseconds */ };

typedef struct work {
  int counts[MOST_PARTS]; /* each written by the thread that runs the part: no atomics */
  int nested;
} work;

static void count(void *context, int part, int parts) {
  work *w = context;
  w->counts[part] += 1;
  if (w->nested && part == parts - 1) {
    work inner = {{0}, 0};
    ds_parallel(count, &inner, parts);
    for (int p = 0; p < parts; p++) w->counts[part] += inner.counts[p] - 1;
  }
}

/* One caller's rounds, with longer and longer pauses: within some of them the workers park, and at
 * the end of some they are just about to. */
static void *call(void *argument) {
  const int caller = *(int *)argument;
  for (int round = 0; round < ROUNDS; round++) {
    work w = {{0}, round % 7 == 0};
    const int parts = 1 + (round + caller) % MOST_PARTS;
    ds_parallel(count, &w, parts);
    for (int p = 0; p < MOST_PARTS; p++) {
      if (w.counts[p] != (p < parts)) {
        printf("caller %d, round %d: part %d of %d ran %d times\n", caller, round, p, parts,
               w.counts[p]);
        exit(1);
      }
    }
    if (round % CALLERS == caller) usleep(round * MOST_PAUSE / ROUNDS);
  }
  return NULL;
}

static void call_from(int callers) {
  pthread_t threads[CALLERS];
  int numbers[CALLERS];
  for (int i = 0; i < callers; i++) {
    numbers[i] = i;
    if (pthread_create(&threads[i], NULL, call, &numbers[i]) != 0) exit(2);
  }
  for (int i = 0; i < callers; i++) pthread_join(threads[i], NULL);
}

#ifndef __SANITIZE_THREAD__ /* which can not follow a fork into threads */
/* Children of a process whose workers are at work elsewhere use pools of their own. */
static void fork_while_working(void) {
  int number = 0;
  pthread_t other;
  if (pthread_create(&other, NULL, call, &number) != 0) exit(2);
  for (int i = 0; i < FORKS; i++) {
    const pid_t child = fork();
    if (child == 0) {
      if (ds_pool_size() != 0) _exit(3);
      call(&number);
      _exit(ds_pool_size() == MOST_PARTS - 1 ? 0 : 4);
    }
    int status;
    if (waitpid(child, &status, 0) != child || status != 0) {
      printf("child %d ended with status %d\n", i, status);
      exit(1);
    }
  }
  pthread_join(other, NULL);
}
#endif

int main(void) {
  for (int callers = 1; callers <= CALLERS; callers++) call_from(callers);
#ifndef __SANITIZE_THREAD__
  fork_while_working();
#endif
  printf("the pool ran every part once\n");
  return 0;
}
