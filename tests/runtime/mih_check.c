/* mih.c against a plain loop, and on damaged tables, for the sanitizers and valgrind: every buffer is exactly as large
 * as it must be, and bytes lie at odd addresses. Prints the levels that ran. */
#include "hamming.h"
#include "mih.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 150
#define CHECK(condition)                                                                                              \
    do {                                                                                                              \
        if (!(condition)) {                                                                                           \
            fprintf(stderr, "mih_check.c:%d: %s is false\n", __LINE__, #condition);                                   \
            exit(1);                                                                                                  \
        }                                                                                                             \
    } while (0)

static uint32_t state = 1;

static uint32_t below(uint32_t limit) {
    state ^= state << 13, state ^= state >> 17, state ^= state << 5;
    return state % limit;
}

static void *room(size_t bytes) {
    void *memory = malloc(bytes ? bytes : 1);
    CHECK(memory != NULL);
    return memory;
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

static hit *plain_loop(const mih_index *index, const uint8_t *query, int64_t max_distance, int64_t *found) {
    hit *hits = room((size_t)index->n_rows * sizeof *hits);
    *found = 0;
    for (int64_t row = 0; row < index->n_rows; row++) {
        int32_t distance = 0;
        for (int i = 0; i < index->n_bytes; i++)
            distance += __builtin_popcount(index->codes[row * index->n_bytes + i] ^ query[i]);
        if (distance <= max_distance && (!index->allow || index->allow[row / 8] >> (row % 8) & 1))
            hits[(*found)++] = (hit){distance, row};
    }
    qsort(hits, (size_t)*found, sizeof *hits, by_distance_and_row);
    return hits;
}

static void fill(uint8_t *bytes, int64_t n, uint32_t values) {
    for (int64_t i = 0; i < n; i++) bytes[i] = (uint8_t)below(values);
}

static void one_round(void) {
    const int32_t n_bytes = (int32_t[]){1, 2, 8, 9, 16, 24, 64}[below(7)], n_bits = 8 * n_bytes;
    const int64_t n_rows = below(4) ? below(300) : below(3), n_words = (n_bytes + 7) / 8;
    const int64_t n_queries = below(8) ? below(5) : 40 + below(20); /* the second is enough for three threads */
    const int32_t fewest = (n_bits + 11) / 12, most = n_bits < MIH_MAX_TABLES ? n_bits : MIH_MAX_TABLES;
    const int32_t n_tables = fewest + (int32_t)below((uint32_t)(most - fewest + 1));
    const int64_t k = 1 + below(below(2) ? 5 : 400), max_distance = below((uint32_t)n_bits + 2);
    const uint32_t values = below(2) ? 256 : 3; /* 3: many ties and duplicates */
    uint8_t *code_memory = room((size_t)(n_rows * n_bytes) + 1), *codes = code_memory + 1;
    uint8_t *query_memory = room((size_t)(n_queries * n_bytes) + 1), *queries = query_memory + 1;
    uint8_t *allow = below(2) ? room((size_t)(n_rows + 7) / 8) : NULL;
    fill(codes, n_rows * n_bytes, values);
    fill(queries, n_queries * n_bytes, values);
    if (allow) fill(allow, (n_rows + 7) / 8, 256);

    mih_table tables[MIH_MAX_TABLES];
    for (int32_t t = 0, bit = 0; t < n_tables; t++) {
        const int32_t key_bits = n_bits * (t + 1) / n_tables - bit;
        tables[t] = (mih_table){
            .offsets = room((((size_t)1 << key_bits) + 1) * sizeof(uint32_t)),
            .rows = room((size_t)n_rows * sizeof(uint32_t)),
            .codes = room((size_t)(n_rows * n_words) * sizeof(uint64_t)),
            .first_bit = bit,
            .key_bits = key_bits,
        };
        bit += key_bits;
        CHECK(mih_build(&tables[t], codes, n_rows, n_bytes) == MIH_OK);
    }
    const mih_index index = {tables, n_tables, n_bytes, n_rows, codes, allow};
    int32_t *distances = room((size_t)(n_queries * k) * sizeof *distances);
    int64_t *rows = room((size_t)(n_queries * k) * sizeof *rows), *found = room((size_t)n_queries * sizeof *found);
    const double budget = below(3) ? -1 : 1000.0 * below(1000);
    CHECK(mih_search(&index, queries, n_queries, k, max_distance, budget, 1 + (int)below(3), distances, rows, found) ==
          MIH_OK);
    for (int64_t i = 0; i < n_queries; i++) {
        int64_t expected;
        hit *hits = plain_loop(&index, queries + i * n_bytes, max_distance, &expected);
        if (found[i] == MIH_GAVE_UP) {
            CHECK(budget >= 0);
        } else {
            CHECK(found[i] == (expected < k ? expected : k));
            for (int64_t j = 0; j < found[i]; j++)
                CHECK(distances[i * k + j] == hits[j].distance && rows[i * k + j] == hits[j].row);
        }
        free(hits);
    }

    mih_table *damaged = &tables[below((uint32_t)n_tables)];
    const size_t n_offsets = ((size_t)1 << damaged->key_bits) + 1;
    for (int i = 0; i < 20; i++) {
        damaged->offsets[below((uint32_t)n_offsets)] = below(2) ? below(UINT32_MAX) : below((uint32_t)n_rows + 2);
        if (n_rows && below(2)) damaged->rows[below((uint32_t)n_rows)] = below(UINT32_MAX);
        if (n_rows && below(2)) damaged->codes[below((uint32_t)(n_rows * n_words))] = below(UINT32_MAX);
        const int status = mih_search(&index, queries, n_queries, k, max_distance, budget, 1, distances, rows, found);
        CHECK(status == MIH_OK || status == MIH_DAMAGED);
    }

    for (int32_t t = 0; t < n_tables; t++) free(tables[t].offsets), free(tables[t].rows), free(tables[t].codes);
    free(code_memory), free(query_memory), free(allow), free(distances), free(rows), free(found);
}

static void bad_arguments(void) {
    uint32_t offsets[257] = {0};
    const mih_table good = {.offsets = offsets, .key_bits = 8};
    mih_table table = good;
    mih_index index = {.tables = &table, .n_tables = 1, .n_bytes = 1};
    const uint8_t query = 0;
    int32_t distance;
    int64_t row, found;
#define SEARCH(queries, k, radius, threads) \
    mih_search(&index, queries, 1, k, radius, -1, threads, &distance, &row, &found)
    CHECK(SEARCH(&query, 1, 8, 1) == MIH_OK && found == 0);
    CHECK(SEARCH(NULL, 1, 8, 1) == MIH_BAD_ARGUMENT);
    CHECK(SEARCH(&query, 0, 8, 1) == MIH_BAD_ARGUMENT);
    CHECK(SEARCH(&query, INT64_MAX, 8, 1) == MIH_BAD_ARGUMENT);
    CHECK(SEARCH(&query, 1, -1, 1) == MIH_BAD_ARGUMENT);
    CHECK(SEARCH(&query, 1, 8, 0) == MIH_BAD_ARGUMENT);
    CHECK(mih_search(NULL, &query, 1, 1, 8, -1, 1, &distance, &row, &found) == MIH_BAD_ARGUMENT);
    index.n_rows = 1; /* and no arrays for it */
    CHECK(SEARCH(&query, 1, 8, 1) == MIH_BAD_ARGUMENT);
    index.n_rows = MIH_MAX_ROWS + 1;
    CHECK(SEARCH(&query, 1, 8, 1) == MIH_BAD_ARGUMENT);
    index.n_rows = 0;
    for (int wrong = 0; wrong < 5; wrong++) {
        table = good;
        if (wrong == 0) table.key_bits = 0;
        if (wrong == 1) table.key_bits = 7; /* one bit has no key */
        if (wrong == 2) table.key_bits = MIH_MAX_KEY_BITS + 1;
        if (wrong == 3) table.first_bit = 1;
        if (wrong == 4) table.offsets = NULL;
        CHECK(SEARCH(&query, 1, 8, 1) == MIH_BAD_ARGUMENT);
    }
    table = good;
    CHECK(mih_build(&table, &query, -1, 1) == MIH_BAD_ARGUMENT);
    CHECK(mih_build(&table, &query, 0, MIH_MAX_BYTES + 1) == MIH_BAD_ARGUMENT);
    CHECK(mih_build(NULL, &query, 0, 1) == MIH_BAD_ARGUMENT);
}

int main(void) {
    bad_arguments();
    for (int i = 0; hamming_available_level(i); i++) {
        CHECK(hamming_set_level(hamming_available_level(i)) == HAMMING_OK);
        for (int round = 0; round < ROUNDS; round++) one_round();
        puts(hamming_level());
    }
    return 0;
}
