/* Exact Hamming search over packed binary codes: the k nearest rows, or every row within a radius.
 *
 * Plain C11 and the C library; POSIX threads unless compiled with -DDUCH_NO_THREADS. Nothing else is needed: to take
 * it into another program, add hamming.c, hamming_level.h and hamming.h to the build.
 *
 *     cc -std=c11 -O3 -c hamming.c
 *
 * -DDUCH_PORTABLE leaves out what is written for one processor alone, for a small program.
 *
 * A code is n_bytes bytes, so it has 8 * n_bytes bits. The distance of two codes is the number of bits that differ; the
 * order of the bits does not matter. The codes of a gallery lie one after another without gaps, row 0 first, and are
 * read where they are: in memory or in a mapped file, at any address. Equal distances are ordered by row, so a question
 * has one answer, and every level gives the same.
 *
 * Ownership: the caller owns every array; nothing is kept after a call returns.
 * Memory: a call allocates scratch that does not grow with the gallery: for each thread 0.1 MB, 23 kB for each 64 bits
 * of a code, and for each of the queries that it takes together, at most 256, 8 * bits + 16 * k + 300 bytes; a radius
 * search 8 * capacity instead of 16 * k. All of it is freed before the call returns. Stack: below 32 kB if optimized.
 * Threads: every function may be called from several threads at once, hamming_set_level too. A call that starts threads
 * waits for them; a thread that cannot be started is done without.
 * Machines: 64- or 32-bit addresses, little- or big-endian integers; compiled by GCC or Clang.
 */
#ifndef DUCH_HAMMING_H
#define DUCH_HAMMING_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the functions return. */
enum hamming_status {
    HAMMING_OK = 0,
    HAMMING_BAD_ARGUMENT = 1, /* a NULL, negative or too large argument; rows that do not rise or do not exist */
    HAMMING_NO_MEMORY = 2,    /* the scratch could not be allocated; nothing was written */
    HAMMING_NO_LEVEL = 3      /* hamming_set_level: no such level, or not on this processor */
};

#define HAMMING_MAX_BYTES 8191          /* of a code: 65528 bits */
#define HAMMING_MAX_ROWS (INT64_C(1) << 47)
#define HAMMING_MAX_THREADS 1024

/* What is searched.
 *
 * At most one of `allow` and `listed` may be given; with neither every row may be found. */
typedef struct {
    const uint8_t *codes;  /* n_rows * n_bytes bytes; may be NULL if n_rows is 0 */
    int64_t n_rows;        /* 0 to HAMMING_MAX_ROWS */
    int64_t n_bytes;       /* of a code, 1 to HAMMING_MAX_BYTES */
    const uint8_t *allow;  /* NULL, or (n_rows + 7) / 8 bytes: bit r % 8 of byte r / 8 (1 << (r % 8)) allows row r */
    const int64_t *listed; /* NULL, or the rows that may be found, strictly rising */
    int64_t n_listed;      /* how many */
} hamming_gallery;

/* The k nearest rows of each query, in the order (distance, row).
 *
 * queries: n_queries * n_bytes bytes. k: at least 1. n_threads: at least 1; small inputs take fewer.
 * distances, rows: n_queries * k values each. Where fewer than k rows may be found, a query's last values are -1.
 */
int hamming_top_k(const hamming_gallery *gallery, const uint8_t *queries, int64_t n_queries, int64_t k, int n_threads,
                  int32_t *distances, int64_t *rows);

/* Every row at most `radius` bits from each query, in the order (distance, row).
 *
 * distances, rows: n_queries * capacity values each. found: n_queries values, how many rows there are. Where found is
 * greater than capacity the query's values are not written: call again for that query with capacity = found. */
int hamming_within(const hamming_gallery *gallery, const uint8_t *queries, int64_t n_queries, int64_t radius,
                   int n_threads, int64_t capacity, int32_t *distances, int64_t *rows, int64_t *found);

/* The version of the code in use: "avx512" (with VPOPCNTDQ), "avx2", "neon" or "portable". The best that the processor
 * has, unless hamming_set_level chose another. The string is the library's own, as are those of the functions below. */
const char *hamming_level(void);

/* Use this level in calls that begin later. */
int hamming_set_level(const char *name);

/* Name of level i that this processor has, best first; NULL past the last. */
const char *hamming_available_level(int i);

/* sha256 of the sources that the library was built from, 64 hexadecimal digits; "" if the build did not tell it. */
const char *hamming_source_sha256(void);

#ifdef __cplusplus
}
#endif

#endif
