/* Exact multi-index hashing over packed codes: the same hits in the same order (distance, row) as a scan, with far
 * fewer codes read. M. Norouzi, A. Punjani, D. J. Fleet, "Fast Exact Search in Hamming Space with Multi-Index Hashing",
 * IEEE TPAMI 36 (2014).
 *
 * The bits of a code are cut into as many keys as there are tables. A table holds all codes once more, in the order of
 * its key, so that the codes that share a key, a bucket, lie one after another. Once every code whose key t is within
 * r[t] bits of the query's key has been read, for every table t, a code not yet read is at least the sum of the
 * r[t] + 1 bits away. A search widens the r[t], the cheapest first, until no unread code can be a hit.
 *
 * A code is taken as 64-bit words: its bytes in little-endian order, zeros after the last. Bit i of a code is bit
 * i % 64, counted from the least significant, of word i / 64. For machines with little-endian integers.
 *
 * Needs hamming.c beside it, whose level it uses; hamming.h says what a code is.
 * Ownership: the caller owns every array; nothing is kept after a call returns.
 * Memory: a call allocates none, and takes 8 kB of stack if optimized. Arrays of 4- and 8-byte values are aligned to
 * them; bytes may lie anywhere.
 * Threads: every function may be called from several threads at once.
 */
#ifndef DUCH_MIH_H
#define DUCH_MIH_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the functions return. */
enum mih_status {
    MIH_OK = 0,
    MIH_BAD_ARGUMENT = 1, /* a NULL, negative or too large argument, or keys that are not the bits of a code */
    MIH_DAMAGED = 2       /* a table leads out of its arrays, to the wrong code or to a row twice: there is no result */
};

#define MIH_MAX_TABLES 64
#define MIH_MAX_KEY_BITS 28
#define MIH_MAX_BYTES 64 /* of a code: 512 bits */
#define MIH_MAX_ROWS INT64_C(0xffffffff)

/* In `found`: no hits were looked for to the end, as a scan is expected to cost less. */
#define MIH_GAVE_UP (-1)

typedef struct {
    uint32_t *offsets;  /* 2^key_bits + 1 values: bucket b is the positions offsets[b] to offsets[b + 1] - 1 */
    uint32_t *rows;     /* n_rows values: the row of the code at a position; they rise within a bucket */
    uint64_t *codes;    /* n_rows * words of a code: the code at a position */
    int32_t first_bit;  /* the key is this bit of the code and the key_bits - 1 bits after it */
    int32_t key_bits;   /* 1 to MIH_MAX_KEY_BITS */
} mih_table;

/* What is searched. The arrays of the tables are only read. */
typedef struct {
    const mih_table *tables; /* the first key begins at bit 0, every other where the one before ends */
    int32_t n_tables;        /* 1 to MIH_MAX_TABLES */
    int32_t n_bytes;         /* of a code, 1 to MIH_MAX_BYTES */
    int64_t n_rows;          /* 0 to MIH_MAX_ROWS */
    const uint8_t *codes;    /* n_rows * n_bytes bytes, row by row: hits are compared with them. NULL: they are not */
    const uint8_t *allow;    /* NULL for all, or the rows that may be found: bit r % 8 of byte r / 8 allows row r */
} mih_index;

/* Fills the arrays of a table: a counting sort of the codes by their key.
 *
 * codes: n_rows * n_bytes bytes. */
int mih_build(const mih_table *table, const uint8_t *codes, int64_t n_rows, int32_t n_bytes);

/* The k nearest rows of each query that are at most max_distance bits away, in the order (distance, row).
 *
 * queries: n_queries * n_bytes bytes. k: at least 1. n_threads: at least 1; no more than 64 are used, fewer for few
 * queries.
 * budget_ns: nanoseconds that a scan takes for one query; a query that is expected to take longer is given up.
 *            INFINITY or anything below 0: never.
 * distances, rows: n_queries * k values each, the first found[i] of query i's k are its hits.
 * found: n_queries values: the number of hits, or MIH_GAVE_UP.
 *
 * What the tables say is checked where it is used, so that damaged ones cannot lead outside of the arrays: it costs a
 * comparison for each bucket and each hit. With `codes` no hit has a wrong distance, but damage may still hide one. */
int mih_search(const mih_index *index, const uint8_t *queries, int64_t n_queries, int64_t k, int64_t max_distance,
               double budget_ns, int n_threads, int32_t *distances, int64_t *rows, int64_t *found);

#ifdef __cplusplus
}
#endif

#endif
