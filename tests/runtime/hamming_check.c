/* hamming.c against a plain loop at every level of this processor, for the sanitizers, valgrind and qemu: each buffer
 * is exactly as large as it must be, and lies at an odd address. Prints the levels that ran.
 *
 *     hamming_check [ROUNDS [SEED]]
 */
#include "hamming.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                         \
    do {                                                                                                         \
        if (!(condition)) {                                                                                      \
            fprintf(stderr, "hamming_check.c:%d: %s is false at level %s\n", __LINE__, #condition, hamming_level()); \
            exit(1);                                                                                             \
        }                                                                                                        \
    } while (0)

static uint32_t state = 1;

static uint32_t below(uint32_t limit) {
    state ^= state << 13, state ^= state >> 17, state ^= state << 5;
    return state % limit;
}

/* Exactly so many bytes, from an odd address up to the end of what malloc gave. */
static uint8_t *odd_room(size_t bytes, void **owner) {
    uint8_t *memory = malloc(bytes + 1);
    CHECK(memory != NULL);
    *owner = memory;
    return memory + 1;
}

typedef struct {
    int32_t distance;
    int64_t row;
} hit;

static int by_distance_and_row(const void *a, const void *b) {
    const hit *x = a, *y = b;
    return x->distance != y->distance ? (x->distance > y->distance) - (x->distance < y->distance)
                                      : (x->row > y->row) - (x->row < y->row);
}

static int64_t expected(const hamming_gallery *g, const uint8_t *query, hit *hits) {
    int64_t n = 0, next_listed = 0;
    for (int64_t row = 0; row < g->n_rows; row++) {
        bool may = !g->allow || (g->allow[row / 8] >> row % 8 & 1);
        if (g->listed) {
            may = next_listed < g->n_listed && g->listed[next_listed] == row;
            next_listed += may;
        }
        if (!may) continue;
        hits[n].distance = 0;
        for (int64_t i = 0; i < g->n_bytes; i++)
            hits[n].distance += __builtin_popcount(g->codes[row * g->n_bytes + i] ^ query[i]);
        hits[n++].row = row;
    }
    qsort(hits, (size_t)n, sizeof *hits, by_distance_and_row);
    return n;
}

static void check_search(const hamming_gallery *g, const uint8_t *queries, int64_t n_queries, int64_t k, int threads,
                         int64_t radius, int64_t capacity) {
    const size_t n = (size_t)n_queries;
    int32_t *distances = malloc(n * (size_t)k * sizeof *distances + 1);
    int64_t *rows = malloc(n * (size_t)k * sizeof *rows + 1);
    int32_t *near_distances = malloc(n * (size_t)capacity * sizeof *near_distances + 1);
    int64_t *near_rows = malloc(n * (size_t)capacity * sizeof *near_rows + 1), *found = malloc(n * sizeof *found + 1);
    hit *hits = malloc(((size_t)g->n_rows + 1) * sizeof *hits);
    CHECK(distances && rows && near_distances && near_rows && found && hits);
    CHECK(hamming_top_k(g, queries, n_queries, k, threads, distances, rows) == HAMMING_OK);
    CHECK(hamming_within(g, queries, n_queries, radius, threads, capacity, near_distances, near_rows, found) ==
          HAMMING_OK);
    for (size_t q = 0; q < n; q++) {
        const int64_t m = expected(g, queries + q * (size_t)g->n_bytes, hits);
        for (size_t i = 0; i < (size_t)k; i++) {
            CHECK(distances[q * (size_t)k + i] == ((int64_t)i < m ? hits[i].distance : -1));
            CHECK(rows[q * (size_t)k + i] == ((int64_t)i < m ? hits[i].row : -1));
        }
        int64_t inside = 0;
        while (inside < m && hits[inside].distance <= radius) inside++;
        CHECK(found[q] == inside);
        for (size_t i = 0; inside <= capacity && i < (size_t)inside; i++) {
            CHECK(near_distances[q * (size_t)capacity + i] == hits[i].distance);
            CHECK(near_rows[q * (size_t)capacity + i] == hits[i].row);
        }
    }
    free(distances), free(rows), free(near_distances), free(near_rows), free(found), free(hits);
}

static void one_round(void) {
    static const int64_t widths[] = {1, 2, 3, 5, 7, 8, 9, 12, 16, 24, 25, 32, 40, 64, 128, 136, 150};
    static const int64_t sizes[] = {0, 1, 63, 64, 65, 127, 128, 129, 511, 512, 513, 1100, 4096, 4500, 9000, 20000};
    const int64_t n_bytes = widths[below(sizeof widths / sizeof *widths)];
    const int64_t n_rows = sizes[below(sizeof sizes / sizeof *sizes - (n_bytes > 9 ? 3 : 0))];
    const int64_t n_queries = below(4) ? below(6) : 4 + below(40);
    const uint8_t values = below(2) ? 255 : 1; /* many ties */
    void *codes_owner, *queries_owner, *allow_owner;
    uint8_t *codes = odd_room((size_t)(n_rows * n_bytes), &codes_owner);
    uint8_t *queries = odd_room((size_t)(n_queries * n_bytes), &queries_owner);
    uint8_t *allow = odd_room((size_t)(n_rows + 7) / 8, &allow_owner);
    int64_t *listed = malloc(((size_t)n_rows + 1) * sizeof *listed);
    CHECK(listed != NULL);
    for (int64_t i = 0; i < n_rows * n_bytes; i++) codes[i] = (uint8_t)below(256) & values;
    for (int64_t i = 0; i < n_queries * n_bytes; i++) queries[i] = (uint8_t)below(256) & values;
    const uint32_t kept = (uint32_t[]){0, 1, 30, 500, 990, 1000}[below(6)], run = 1 + below(2) * below(3000);
    memset(allow, 0xa5, (size_t)(n_rows + 7) / 8); /* bits past the last row are nobody's */
    int64_t n_listed = 0;
    bool may = false;
    for (int64_t row = 0; row < n_rows; row++) {
        if (row % run == 0) may = below(1000) < kept;
        allow[row / 8] = (uint8_t)((allow[row / 8] & ~(1 << row % 8)) | may << row % 8);
        if (may) listed[n_listed++] = row;
    }
    hamming_gallery gallery = {.codes = codes, .n_rows = n_rows, .n_bytes = n_bytes};
    switch (below(3)) {
    case 0: gallery.allow = allow; break;
    case 1: gallery.listed = listed, gallery.n_listed = n_listed; break;
    default: break;
    }
    const int64_t k = below(8) ? 1 + below(40) : n_rows + 2;
    const int64_t radius = below(5) ? below((uint32_t)(5 * n_bytes)) : 9 * n_bytes;
    check_search(&gallery, queries, n_queries, k, 1 + (int)below(4), radius, below(2) ? below(50) : n_rows);
    free(codes_owner), free(queries_owner), free(allow_owner), free(listed);
}

static void check_refusals(void) {
    uint8_t codes[16] = {0}, allow[1] = {3};
    int64_t rows[4], found[2], listed[2] = {0, 1}, falling[2] = {1, 0}, beyond[2] = {0, 2};
    int32_t distances[4];
    const hamming_gallery good = {.codes = codes, .n_rows = 2, .n_bytes = 8};
    hamming_gallery bad[] = {good, good, good, good, good, good, good, good, good, good};
    bad[0].codes = NULL, bad[1].n_rows = -1, bad[2].n_rows = HAMMING_MAX_ROWS + 1, bad[3].n_bytes = 0;
    bad[4].n_bytes = HAMMING_MAX_BYTES + 1, bad[5].listed = listed, bad[5].n_listed = -1;
    bad[6].listed = falling, bad[6].n_listed = 2, bad[7].listed = beyond, bad[7].n_listed = 2;
    bad[8].listed = listed, bad[8].n_listed = 2, bad[8].allow = allow, bad[9].n_bytes = -8;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(hamming_top_k(&bad[i], codes, 1, 1, 1, distances, rows) == HAMMING_BAD_ARGUMENT);
        CHECK(hamming_within(&bad[i], codes, 1, 1, 1, 2, distances, rows, found) == HAMMING_BAD_ARGUMENT);
    }
    CHECK(hamming_top_k(NULL, codes, 1, 1, 1, distances, rows) == HAMMING_BAD_ARGUMENT);
    CHECK(hamming_top_k(&good, NULL, 1, 1, 1, distances, rows) == HAMMING_BAD_ARGUMENT);
    CHECK(hamming_top_k(&good, codes, -1, 1, 1, distances, rows) == HAMMING_BAD_ARGUMENT);
    CHECK(hamming_top_k(&good, codes, 1, 0, 1, distances, rows) == HAMMING_BAD_ARGUMENT);
    CHECK(hamming_top_k(&good, codes, 1, 1, 0, distances, rows) == HAMMING_BAD_ARGUMENT);
    CHECK(hamming_top_k(&good, codes, 1, 1, HAMMING_MAX_THREADS + 1, distances, rows) == HAMMING_BAD_ARGUMENT);
    CHECK(hamming_top_k(&good, codes, 1, 1, 1, NULL, rows) == HAMMING_BAD_ARGUMENT);
    CHECK(hamming_top_k(&good, codes, 1, 1, 1, distances, NULL) == HAMMING_BAD_ARGUMENT);
    CHECK(hamming_top_k(&good, NULL, 0, 1, 1, NULL, NULL) == HAMMING_OK);
    CHECK(hamming_within(&good, codes, 1, -1, 1, 2, distances, rows, found) == HAMMING_BAD_ARGUMENT);
    CHECK(hamming_within(&good, codes, 1, 1, 1, -1, distances, rows, found) == HAMMING_BAD_ARGUMENT);
    CHECK(hamming_within(&good, codes, 1, 1, 1, 2, distances, rows, NULL) == HAMMING_BAD_ARGUMENT);
    CHECK(hamming_within(&good, codes, 1, 1, 1, 0, NULL, NULL, found) == HAMMING_OK && found[0] == 2);
    /* Results that no memory could hold, also where addresses have 32 bits. */
    CHECK(hamming_top_k(&good, codes, 1, INT64_MAX, 1, distances, rows) == HAMMING_BAD_ARGUMENT);
    CHECK(hamming_top_k(&good, codes, 2, PTRDIFF_MAX / 8, 1, distances, rows) == HAMMING_BAD_ARGUMENT);
    CHECK(hamming_within(&good, codes, 1, 1, 1, INT64_MAX, distances, rows, found) == HAMMING_BAD_ARGUMENT);
    const hamming_gallery vaster = {.codes = codes, .n_rows = HAMMING_MAX_ROWS, .n_bytes = HAMMING_MAX_BYTES};
    if (PTRDIFF_MAX < INT64_MAX)
        CHECK(hamming_top_k(&vaster, codes, 1, 1, 1, distances, rows) == HAMMING_BAD_ARGUMENT);
    /* More than there is memory for is told before anything is written. */
    const int64_t most = PTRDIFF_MAX / 8 < HAMMING_MAX_ROWS ? PTRDIFF_MAX / 8 : HAMMING_MAX_ROWS;
    const hamming_gallery vast = {.codes = codes, .n_rows = most, .n_bytes = 8};
    distances[0] = 7;
    CHECK(hamming_top_k(&vast, codes, 1, most, 1, distances, rows) == HAMMING_NO_MEMORY);
    CHECK(distances[0] == 7);
    CHECK(hamming_set_level("none") == HAMMING_NO_LEVEL && hamming_set_level(NULL) == HAMMING_BAD_ARGUMENT);
}

/* Rows and threads enough to be shared out, both ways. */
static void check_threads(void) {
    const int64_t n_rows = 40000, n_bytes = 8, n_queries = 30, k = 9;
    uint8_t *codes = malloc((size_t)(n_rows * n_bytes));
    CHECK(codes != NULL);
    for (int64_t i = 0; i < n_rows * n_bytes; i++) codes[i] = (uint8_t)below(256) & 3;
    const hamming_gallery many = {.codes = codes, .n_rows = n_rows, .n_bytes = n_bytes};
    check_search(&many, codes, n_queries, k, 4, 12, 5000);
    const hamming_gallery few = {.codes = codes, .n_rows = 1500, .n_bytes = n_bytes};
    check_search(&few, codes, 900, k, 4, 12, 200);
    free(codes);
}

int main(int argc, char **argv) {
    const long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 300;
    if (argc > 2) state = (uint32_t)strtoul(argv[2], NULL, 10) | 1;
    check_refusals();
    for (int i = 0; hamming_available_level(i); i++) {
        CHECK(hamming_set_level(hamming_available_level(i)) == HAMMING_OK);
        CHECK(strcmp(hamming_level(), hamming_available_level(i)) == 0);
        for (long round = 0; round < rounds; round++) one_round();
        check_threads();
        printf("%s\n", hamming_level());
    }
    return 0;
}
