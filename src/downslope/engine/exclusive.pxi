# One thread at a time, and a clear error for any other: what training asks for.


@cython.final
cdef class Exclusive:
    """A claim that one thread holds, as often as it likes; another one is refused at once.

    A lock, so that it holds without the GIL too.
    """

    cdef PyThread_type_lock _lock
    cdef unsigned long _owner   # the thread that holds it; 0: none
    cdef int _generation        # the `_forks` of its claim
    cdef int _claims
    cdef str _message

    def __cinit__(self, str message):
        self._lock, self._message = PyThread_allocate_lock(), message
        if self._lock == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self._lock != NULL:
            PyThread_free_lock(self._lock)

    cdef int claim(self) except -1:
        cdef unsigned long thread = PyThread_get_thread_ident()
        if self._owner != thread:
            if not PyThread_acquire_lock(self._lock, NOWAIT_LOCK):
                if self._generation == _forks:
                    raise RuntimeError(self._message)
                self._claims = 0    # its holder stayed behind in the process that forked
            self._owner, self._generation = thread, _forks
        self._claims += 1
        return 0

    cdef void release(self) noexcept:
        self._claims -= 1
        if self._claims == 0:
            self._owner = 0
            PyThread_release_lock(self._lock)

    def __enter__(self) -> None:
        self.claim()

    def __exit__(self, *_) -> None:
        self.release()
