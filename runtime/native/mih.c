/* Exact multi-index hashing; mih.h says what it does. */
#include "mih.h"

#include "hamming.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#ifndef DUCH_NO_THREADS
#include <pthread.h>
#endif
#if defined(__x86_64__) && !defined(DUCH_PORTABLE)
#define ON_X86
#include <immintrin.h>
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum {
    MAX_WORDS = MIH_MAX_BYTES / 8,
    LINE = 64,      /* bytes that come from memory at once */
    CHUNK = 32,     /* buckets whose lines are asked for before the first of them is read */
    MAX_LINES = 16, /* asked for of one bucket; the processor sees the pattern of longer ones itself */
    PENDING = 16,   /* near codes that wait for their row numbers, which lie far from the codes */
    MAX_THREADS = 64,
    THREAD_QUERIES = 16, /* for which another thread is worth its start */
    EXPLORE_SHARE = 8    /* a query spends this part of its budget before what is left to do must fit into it */
};

/* Nanoseconds, fitted to random and clustered codes of 64 bits in 3 and 4 tables at 1e7 rows, cold (a 2.6 GHz Xeon):
 * 2,000 buckets with 300,000 codes took 340 us, 21,000 with 86,000 took 475 us, 60 with 11,000 in 6 rings 21 us. */
static const double RING_NS = 1000, BUCKET_NS = 18, WORD_NS = 1;

typedef struct {
    uint32_t start, end; /* positions */
} bucket;

typedef struct search search;
typedef void reader(search *s, int t, const bucket *buckets, int n_buckets);

/* One query. */
struct search {
    const mih_index *index;
    reader *read;
    int n_words;
    uint64_t code[MAX_WORDS];
    struct {
        uint32_t key;
        int radius;  /* the buckets within it have been read; -1: none */
        double next; /* buckets in the next ring */
        double fill; /* codes expected in one of them */
    } state[MIH_MAX_TABLES];
    uint64_t *heap; /* the best so far, distance << 32 | row each; the worst comes first */
    int64_t k, size;
    uint32_t limit; /* a code farther away is no hit */
    int n_pending;
    struct {
        int table;
        uint32_t position, distance;
    } pending[PENDING];
    bool damaged;
};

static const mih_table *table_of(const search *s, int t) { return s->index->tables + t; }

static uint32_t key_of(const uint64_t *code, const mih_table *table) {
    const int word = table->first_bit / 64, shift = table->first_bit % 64;
    uint64_t key = code[word] >> shift;
    if (shift + table->key_bits > 64) key |= code[word + 1] << (64 - shift);
    return (uint32_t)(key & ((UINT64_C(1) << table->key_bits) - 1));
}

ALWAYS_INLINE void load_code(uint64_t *code, const uint8_t *bytes, int64_t n_bytes) {
    code[(n_bytes - 1) / 8] = 0;
    memcpy(code, bytes, (size_t)n_bytes);
}

/* ---- the best k ---- */

static void sink(uint64_t *heap, int64_t size, uint64_t value) {
    int64_t at = 0;
    for (int64_t child; (child = 2 * at + 1) < size; at = child) {
        if (child + 1 < size && heap[child + 1] > heap[child]) child++;
        if (heap[child] <= value) break;
        heap[at] = heap[child];
    }
    heap[at] = value;
}

static void keep(search *s, uint64_t value) {
    if (s->size == s->k) {
        if (value > s->heap[0]) return;
        sink(s->heap, s->size, value);
    } else {
        int64_t at = s->size++;
        for (int64_t parent; at > 0 && s->heap[parent = (at - 1) / 2] < value; at = parent)
            s->heap[at] = s->heap[parent];
        s->heap[at] = value;
    }
    if (s->size == s->k) s->limit = (uint32_t)(s->heap[0] >> 32);
}

static void sort_heap(uint64_t *heap, int64_t size) {
    while (size > 1) {
        const uint64_t worst = heap[0];
        size--;
        sink(heap, size, heap[size]);
        heap[size] = worst;
    }
}

static void settle(search *s) {
    for (int i = 0; i < s->n_pending; i++) {
        const uint32_t row = table_of(s, s->pending[i].table)->rows[s->pending[i].position];
        if (row >= s->index->n_rows) {
            s->damaged = true;
            break;
        }
        if (s->index->allow && !(s->index->allow[row / 8] >> (row % 8) & 1)) continue;
        keep(s, (uint64_t)s->pending[i].distance << 32 | row);
    }
    s->n_pending = 0;
}

/* Takes a near code of table t, unless another table that has been read as far as the distance of its key there has
 * brought it before. */
static __attribute__((noinline)) void offer(search *s, int t, uint32_t position, uint32_t distance) {
    const uint64_t *code = table_of(s, t)->codes + (uint64_t)position * (uint64_t)s->n_words;
    for (int u = 0; u < s->index->n_tables; u++)
        if (u != t && __builtin_popcount(key_of(code, table_of(s, u)) ^ s->state[u].key) <= s->state[u].radius) return;
    __builtin_prefetch(table_of(s, t)->rows + position);
    s->pending[s->n_pending].table = t;
    s->pending[s->n_pending].position = position;
    s->pending[s->n_pending].distance = distance;
    if (++s->n_pending == PENDING) settle(s);
}

/* ---- reading buckets ---- */

ALWAYS_INLINE void read_words(search *s, int t, const bucket *buckets, int n_buckets) {
    const int n_words = s->n_words;
    for (int b = 0; b < n_buckets; b++) {
        const uint64_t *code = table_of(s, t)->codes + (uint64_t)buckets[b].start * (uint64_t)n_words;
        for (uint32_t i = buckets[b].start; i < buckets[b].end; i++, code += n_words) {
            uint32_t distance = 0;
            for (int w = 0; w < n_words; w++) distance += (uint32_t)__builtin_popcountll(code[w] ^ s->code[w]);
            if (distance <= s->limit) offer(s, t, i, distance);
        }
    }
}

static void read_portable(search *s, int t, const bucket *buckets, int n_buckets) {
    read_words(s, t, buckets, n_buckets);
}

#ifdef ON_X86
__attribute__((target("popcnt"))) static void read_popcnt(search *s, int t, const bucket *buckets, int n_buckets) {
    read_words(s, t, buckets, n_buckets);
}

/* Codes of one or two words, eight words at a time. */
#define AVX512 __attribute__((target("avx512f,avx512vpopcntdq,popcnt,bmi")))

ALWAYS_INLINE AVX512 void read_vectors(search *s, int t, const bucket *buckets, int n_buckets, const uint32_t n_words) {
    const uint32_t lanes = 8 / n_words;
    const uint64_t *codes = table_of(s, t)->codes;
    const __m512i query = n_words == 1 ? _mm512_set1_epi64((long long)s->code[0])
                                       : _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)s->code));
    for (int b = 0; b < n_buckets; b++) {
        const uint32_t end = buckets[b].end;
        for (uint64_t i = buckets[b].start; i < end; i += lanes) {
            const uint32_t left = end - (uint32_t)i;
            const __mmask8 inside = (__mmask8)(left < lanes ? (1u << left * n_words) - 1 : 255);
            const __m512i read = _mm512_maskz_loadu_epi64(inside, codes + i * n_words);
            __m512i distances = _mm512_popcnt_epi64(_mm512_xor_si512(read, query));
            if (n_words == 2) /* both words of a code get their sum */
                distances = _mm512_add_epi64(distances, _mm512_permutex_epi64(distances, 0xb1));
            unsigned near = _mm512_mask_cmple_epi64_mask(inside, distances, _mm512_set1_epi64(s->limit));
            if (__builtin_expect(near != 0, 0)) {
                uint64_t each[8];
                _mm512_storeu_si512(each, distances);
                if (n_words == 2) near &= 0x55;
                for (; near; near &= near - 1) {
                    const uint32_t lane = (uint32_t)__builtin_ctz(near);
                    if (each[lane] <= s->limit) offer(s, t, (uint32_t)i + lane / n_words, (uint32_t)each[lane]);
                }
            }
        }
    }
}

static AVX512 void read_1_avx512(search *s, int t, const bucket *buckets, int n_buckets) {
    read_vectors(s, t, buckets, n_buckets, 1);
}

static AVX512 void read_2_avx512(search *s, int t, const bucket *buckets, int n_buckets) {
    read_vectors(s, t, buckets, n_buckets, 2);
}
#endif

static reader *choose_reader(int n_words) {
#ifdef ON_X86
    const char *level = hamming_level();
    if (strcmp(level, "avx512") == 0 && n_words == 1) return read_1_avx512;
    if (strcmp(level, "avx512") == 0 && n_words == 2) return read_2_avx512;
    if (strcmp(level, "portable") != 0) return read_popcnt;
#endif
    (void)n_words;
    return read_portable;
}

/* ---- rings: the keys at one distance from the query's ---- */

/* The next larger number with as many ones; the one after 0 is larger than any key. */
static uint64_t next_flips(uint64_t flips) {
    if (flips == 0) return UINT64_MAX;
    const uint64_t lowest = flips & (~flips + 1), carried = flips + lowest;
    return carried | ((carried ^ flips) >> 2 >> __builtin_ctzll(flips));
}

static void ask_for(const search *s, const mih_table *table, bucket b) {
    const char *line = (const char *)(table->codes + (uint64_t)b.start * (uint64_t)s->n_words);
    const char *end = (const char *)(table->codes + (uint64_t)b.end * (uint64_t)s->n_words);
    if (end - line > MAX_LINES * LINE) end = line + MAX_LINES * LINE;
    for (; line < end; line += LINE) __builtin_prefetch(line);
    __builtin_prefetch(end - 1);
}

/* Reads the next ring of table t; returns how many codes it held. */
static uint64_t read_ring(search *s, int t) {
    const mih_table *table = table_of(s, t);
    const uint64_t n_keys = UINT64_C(1) << table->key_bits;
    uint64_t flips = (UINT64_C(1) << (s->state[t].radius + 1)) - 1, n_codes = 0;
    uint32_t keys[CHUNK];
    bucket buckets[CHUNK];
    while (flips < n_keys && !s->damaged) {
        int n = 0, n_buckets = 0;
        for (; n < CHUNK && flips < n_keys; n++, flips = next_flips(flips)) {
            keys[n] = s->state[t].key ^ (uint32_t)flips;
            __builtin_prefetch(table->offsets + keys[n]);
        }
        for (int i = 0; i < n; i++) {
            const bucket b = {table->offsets[keys[i]], table->offsets[keys[i] + 1]};
            if (b.start > b.end || b.end > s->index->n_rows) {
                s->damaged = true;
                return 0;
            }
            if (b.start == b.end) continue;
            ask_for(s, table, b);
            n_codes += b.end - b.start;
            buckets[n_buckets++] = b;
        }
        s->read(s, t, buckets, n_buckets);
    }
    settle(s);
    return n_codes;
}

static double ring_cost(const search *s, int t) {
    return RING_NS + s->state[t].next * (BUCKET_NS + s->state[t].fill * s->n_words * WORD_NS);
}

static int cheapest(const search *s) {
    int best = 0;
    for (int t = 1; t < s->index->n_tables; t++)
        if (ring_cost(s, t) < ring_cost(s, best)) best = t;
    return best;
}

/* Table t has been read one ring further. Returns whether there is another ring. */
static bool widen(search *s, int t) {
    const int radius = ++s->state[t].radius, key_bits = table_of(s, t)->key_bits;
    s->state[t].next = s->state[t].next * (key_bits - radius) / (radius + 1);
    return radius < key_bits;
}

/* Whether it would cost more than the budget to read, the cheapest first, the rings that are missing. Each of them
 * makes sure of one bit more. */
static bool too_dear(search s, int missing, double budget) {
    double cost = 0;
    for (; missing > 0 && cost <= budget; missing--) {
        const int t = cheapest(&s);
        cost += ring_cost(&s, t);
        if (!widen(&s, t)) break;
    }
    return cost > budget;
}

/* Returns the number of hits, which lie sorted in the heap, or MIH_GAVE_UP. */
static int64_t find(search *s, double budget) {
    for (int t = 0; t < s->index->n_tables; t++) {
        const mih_table *table = table_of(s, t);
        const uint32_t key = key_of(s->code, table);
        s->state[t].key = key;
        s->state[t].radius = -1;
        s->state[t].next = 1;
        s->state[t].fill = (double)table->offsets[key + 1] - table->offsets[key];
    }
    double spent = 0;
    /* Every allowed code at less than `sure` bits has been met. */
    for (int sure = 0; sure <= (int)s->limit; sure++) {
        const int t = cheapest(s);
        if (budget >= 0 && spent + ring_cost(s, t) > budget / EXPLORE_SHARE &&
            too_dear(*s, (int)s->limit + 1 - sure, budget))
            return MIH_GAVE_UP;
        const double n_codes = (double)read_ring(s, t), n_buckets = s->state[t].next;
        if (s->damaged) return 0;
        const double mean = (double)s->index->n_rows / (double)(UINT64_C(1) << table_of(s, t)->key_bits);
        s->state[t].fill = n_codes / n_buckets;
        spent += ring_cost(s, t);
        /* The ring around an empty bucket need not be empty. */
        if (s->state[t].fill < mean) s->state[t].fill = mean;
        if (!widen(s, t)) break; /* that was every code */
    }
    sort_heap(s->heap, s->size);
    return s->size;
}

/* ---- a batch of queries ---- */

typedef struct {
    const mih_index *index;
    const uint8_t *queries;
    int64_t n_queries, k;
    uint32_t max_distance;
    double budget;
    int32_t *distances;
    int64_t *rows, *found;
    _Atomic int64_t next;
    atomic_bool damaged;
} batch;

/* Writes the hits of query i; false if one is not the code that the table says, or is there twice. */
static bool write_hits(const batch *b, const search *s, int64_t i) {
    const int64_t n_bytes = b->index->n_bytes;
    const uint8_t *codes = b->index->codes;
    uint64_t last = UINT64_MAX;
    for (int64_t j = 0; j < b->found[i]; j++) {
        const uint64_t value = s->heap[j];
        if (value == last) return false;
        last = value;
        b->distances[i * b->k + j] = (int32_t)(value >> 32);
        b->rows[i * b->k + j] = (int64_t)(value & UINT32_MAX);
        if (codes) __builtin_prefetch(codes + b->rows[i * b->k + j] * n_bytes);
    }
    for (int64_t j = 0; codes && j < b->found[i]; j++) {
        uint64_t code[MAX_WORDS];
        int distance = 0;
        load_code(code, codes + b->rows[i * b->k + j] * n_bytes, n_bytes);
        for (int w = 0; w < s->n_words; w++) distance += __builtin_popcountll(code[w] ^ s->code[w]);
        if (distance != b->distances[i * b->k + j]) return false;
    }
    return true;
}

static void *work(void *argument) {
    batch *b = argument;
    search s = {.index = b->index, .n_words = (b->index->n_bytes + 7) / 8, .k = b->k};
    s.read = choose_reader(s.n_words);
    for (int64_t i; (i = atomic_fetch_add(&b->next, 1)) < b->n_queries && !atomic_load(&b->damaged);) {
        load_code(s.code, b->queries + i * b->index->n_bytes, b->index->n_bytes);
        s.heap = (uint64_t *)(b->rows + i * b->k);
        s.size = 0;
        s.limit = b->max_distance;
        b->found[i] = find(&s, b->budget);
        if (s.damaged || !write_hits(b, &s, i)) atomic_store(&b->damaged, true);
    }
    return NULL;
}

static void run(batch *b, int n_threads) {
#ifndef DUCH_NO_THREADS
    pthread_t threads[MAX_THREADS];
    int started = 0;
    if (n_threads > MAX_THREADS) n_threads = MAX_THREADS;
    while (started < n_threads - 1 && (started + 1) * THREAD_QUERIES < b->n_queries &&
           pthread_create(&threads[started], NULL, work, b) == 0)
        started++;
    work(b);
    while (started > 0) pthread_join(threads[--started], NULL);
#else
    (void)n_threads;
    work(b);
#endif
}

/* ---- the functions of mih.h ---- */

static bool is_table(const mih_table *table, int64_t n_rows, int32_t n_bytes) {
    return table && n_rows >= 0 && n_rows <= MIH_MAX_ROWS && n_bytes >= 1 && n_bytes <= MIH_MAX_BYTES &&
           table->key_bits >= 1 && table->key_bits <= MIH_MAX_KEY_BITS && table->first_bit >= 0 &&
           table->first_bit <= 8 * n_bytes - table->key_bits && table->offsets &&
           (n_rows == 0 || (table->rows && table->codes));
}

ALWAYS_INLINE void counting_sort(const mih_table *table, const uint8_t *codes, int64_t n_rows, const int64_t n_bytes) {
    const size_t n_keys = (size_t)1 << table->key_bits, n_words = (size_t)(n_bytes + 7) / 8;
    uint64_t code[MAX_WORDS];
    memset(table->offsets, 0, (n_keys + 1) * sizeof *table->offsets);
    for (int64_t row = 0; row < n_rows; row++) {
        load_code(code, codes + row * n_bytes, n_bytes);
        table->offsets[key_of(code, table)]++;
    }
    uint32_t before = 0;
    for (size_t key = 0; key < n_keys; key++) {
        const uint32_t count = table->offsets[key];
        table->offsets[key] = before;
        before += count;
    }
    for (int64_t row = 0; row < n_rows; row++) {
        load_code(code, codes + row * n_bytes, n_bytes);
        const uint32_t position = table->offsets[key_of(code, table)]++;
        table->rows[position] = (uint32_t)row;
        memcpy(table->codes + position * n_words, code, n_words * sizeof *code);
    }
    /* Each offset has moved to the end of its bucket, where the next one starts. */
    memmove(table->offsets + 1, table->offsets, n_keys * sizeof *table->offsets);
    table->offsets[0] = 0;
}

int mih_build(const mih_table *table, const uint8_t *codes, int64_t n_rows, int32_t n_bytes) {
    if (!is_table(table, n_rows, n_bytes) || (n_rows > 0 && !codes)) return MIH_BAD_ARGUMENT;
    if (n_bytes == 8) /* copies of known length are three times as quick */
        counting_sort(table, codes, n_rows, 8);
    else if (n_bytes == 16)
        counting_sort(table, codes, n_rows, 16);
    else
        counting_sort(table, codes, n_rows, n_bytes);
    return MIH_OK;
}

int mih_search(const mih_index *index, const uint8_t *queries, int64_t n_queries, int64_t k, int64_t max_distance,
               double budget_ns, int n_threads, int32_t *distances, int64_t *rows, int64_t *found) {
    if (!index || !index->tables || index->n_tables < 1 || index->n_tables > MIH_MAX_TABLES || n_queries < 0 || k < 1 ||
        max_distance < 0 || n_threads < 1)
        return MIH_BAD_ARGUMENT;
    if (n_queries > 0 && (!queries || !distances || !rows || !found ||
                          k > PTRDIFF_MAX / (int64_t)sizeof *rows / n_queries)) /* no array is so long */
        return MIH_BAD_ARGUMENT;
    int32_t next_bit = 0;
    for (int t = 0; t < index->n_tables; t++) {
        if (!is_table(index->tables + t, index->n_rows, index->n_bytes) || index->tables[t].first_bit != next_bit)
            return MIH_BAD_ARGUMENT;
        next_bit += index->tables[t].key_bits;
    }
    if (next_bit != 8 * index->n_bytes) return MIH_BAD_ARGUMENT;
    batch b = {
        .index = index,
        .queries = queries,
        .n_queries = n_queries,
        .k = k,
        .max_distance = (uint32_t)(max_distance < next_bit ? max_distance : next_bit),
        .budget = budget_ns,
        .distances = distances,
        .rows = rows,
        .found = found,
    };
    run(&b, n_threads);
    return b.damaged ? MIH_DAMAGED : MIH_OK;
}
