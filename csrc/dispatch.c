/* dispatch.c: which instruction sets this build holds and this CPU runs, and their kernel tables.
 * Compiled with the baseline flags: it must run on any CPU.  Which table is used (DOWNSLOPE_ISA or
 * the best) is decided by the caller, once, at import. */
#include "downslope.h"

#if defined __x86_64__ || defined _M_X64
#define HAVE_X86 1
#elif defined __aarch64__
#define HAVE_NEON 1
#endif

extern const ds_kernels ds_kernels_scalar_f32, ds_kernels_scalar_f64;
#ifdef HAVE_X86
extern const ds_kernels ds_kernels_avx2_f32, ds_kernels_avx2_f64;
extern const ds_kernels ds_kernels_avx512_f32, ds_kernels_avx512_f64;
#endif
#ifdef HAVE_NEON
extern const ds_kernels ds_kernels_neon_f32, ds_kernels_neon_f64;
#endif

/* [isa][float64?]; NULL where this build has none. */
static const ds_kernels *const tables[DS_ISA_COUNT][2] = {
    [DS_ISA_scalar] = {&ds_kernels_scalar_f32, &ds_kernels_scalar_f64},
#ifdef HAVE_X86
    [DS_ISA_avx2] = {&ds_kernels_avx2_f32, &ds_kernels_avx2_f64},
    [DS_ISA_avx512] = {&ds_kernels_avx512_f32, &ds_kernels_avx512_f64},
#endif
#ifdef HAVE_NEON
    [DS_ISA_neon] = {&ds_kernels_neon_f32, &ds_kernels_neon_f64},
#endif
};

#define ISA_NAME(name) #name,
static const char *const names[DS_ISA_COUNT] = {DS_ISAS(ISA_NAME)};

const char *ds_isa_name(int isa) { return isa < 0 || isa >= DS_ISA_COUNT ? NULL : names[isa]; }

/* The compiler's run-time support reads cpuid and xgetbv: a set counts only when the operating
 * system saves its registers too.  The features are those of the compiler flags in setup.py. */
static int cpu_runs(int isa) {
  switch (isa) {
    case DS_ISA_scalar:
    case DS_ISA_neon: /* part of every aarch64 */
      return 1;
#ifdef HAVE_X86
    case DS_ISA_avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case DS_ISA_avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("fma");
#endif
    default:
      return 0;
  }
}

int ds_isa_available(int isa) {
  return isa >= 0 && isa < DS_ISA_COUNT && tables[isa][0] && cpu_runs(isa);
}

int ds_isa_best(void) {
  int best = DS_ISA_COUNT - 1;
  while (!ds_isa_available(best)) best--;
  return best;
}

const ds_kernels *ds_get_kernels(int isa, int float_bits) {
  return ds_isa_available(isa) ? tables[isa][float_bits == 64] : NULL;
}
