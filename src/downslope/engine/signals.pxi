# Signals: Ctrl-C is seen while the GIL is released.

# The clock is read once per so much work, and signals are looked for this often (seconds).
cdef double FLOPS_PER_CLOCK = 2e6
cdef double SIGNAL_INTERVAL = 0.02


cdef struct Watch:
    bint enabled    # only the main thread receives signals
    double work     # flops since the clock was read
    double seen     # when signals were last looked for (seconds)
    const int8_t *cancelled     # not zero: another thread ends the work; or NULL
    bint *polling   # true while handlers run, in the workspace that the work is done in; or NULL


cdef unsigned long _main_thread = threading.main_thread().ident
cdef int _forks = 0     # between this process and the one that imported


def _renew_main_thread():
    """In a forked child the thread that forked is the main one, and the only one."""
    global _main_thread, _forks
    _main_thread = PyThread_get_thread_ident()
    _forks += 1


os.register_at_fork(after_in_child=_renew_main_thread)


cdef double _now() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + 1e-9 * now.tv_nsec


cdef Watch _new_watch() noexcept:
    cdef Watch watch
    watch.enabled = PyThread_get_thread_ident() == _main_thread
    watch.work, watch.seen = 0, _now()
    watch.cancelled, watch.polling = NULL, NULL
    return watch


cdef int _poll(Watch *watch, double flops) noexcept nogil:
    """Look for signals now and then; INTERRUPTED when a handler raised, or work is cancelled."""
    cdef double now
    cdef int raised
    if not watch.enabled and watch.cancelled == NULL:
        return OK
    watch.work += flops
    if watch.work < FLOPS_PER_CLOCK:
        return OK
    watch.work = 0
    if watch.cancelled != NULL and watch.cancelled[0]:
        return INTERRUPTED
    if not watch.enabled:
        return OK
    now = _now()
    if now - watch.seen < SIGNAL_INTERVAL:
        return OK
    watch.seen = now
    with gil:
        if watch.polling != NULL:
            watch.polling[0] = True
        raised = PyErr_CheckSignals()
        if watch.polling != NULL:
            watch.polling[0] = False
    return INTERRUPTED if raised else OK


cdef int _propagate(int status) except -1:
    """Status of a run; raises what `_poll` found."""
    return status   # INTERRUPTED is -1 and the exception is set
