/* Exact Hamming search; hamming.h says what it does, hamming_level.h how a block is scanned.
 *
 * A search reads the gallery once, block by block, for a batch of queries. A block is small enough for the caches.
 * Codes of one, two or four 64-bit words are read where they lie; others, and allowed rows that lie apart, are first
 * copied word by word. Each query keeps the rows that are nearer than its limit; once it has k of them the limit is the
 * distance of the k-th, and what comes later has to be nearer than that: at an equal distance the earlier row wins.
 */
#include "hamming.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#ifndef DUCH_NO_THREADS
#include <pthread.h>
#endif

#if defined(__x86_64__) && !defined(DUCH_PORTABLE)
#define ON_X86
#include <immintrin.h>
#elif defined(__aarch64__) && !defined(DUCH_PORTABLE)
#define ON_ARM
#include <arm_neon.h>
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(type, a, b, ...) __builtin_shuffle(a, b, (type){__VA_ARGS__})
#endif

enum {
    BLOCK_WORDS = 4096,   /* of a block, 32 kB; more where a code is long */
    BLOCK_ROWS_MIN = 512, /* a slice of the widest level */
    GROUPS = 22,          /* of bits in a word: 21 groups of three, then one of one */
    PATTERNS = 8,         /* of three bits */
    MAX_SLICE_WORDS = 16, /* longer codes are counted: the planes would leave the second-level cache */
    MAX_BATCH = 256,      /* queries that read a block together */
    MAX_BIAS = 11,        /* planes of a sum of MAX_SLICE_WORDS words */
    /* Bytes. Of 0 / 512 / 1024 / 2048 / 4096, one query of 128 bits with AVX-512: 90 / 97 / 98 / 99 / 99 % of the
     * bandwidth of reading alone; of 64 bits with AVX2: 83 / 80 / 88 / 97 / 97 %. */
    AHEAD = 2048
};
/* A thread costs some 20 microseconds to start; this many words of codes against queries take at least 30. */
#define THREAD_WORDS 1e6
#define THREAD_ROWS 8192 /* threads share the queries where each would have fewer rows than this */
#define BATCH_SCRATCH ((size_t)16 << 20) /* bytes of kept rows that a batch may need before it is made smaller */

typedef struct {
    uint64_t *code;
    uint8_t *probe;          /* the query as slices want it, see below */
    uint64_t limit;          /* rows nearer than this are kept */
    uint64_t biased;         /* one more than the limit that the probe was made for */
    uint64_t *kept;          /* distance << 48 | row; among equal distances in the order of the rows */
    size_t n_kept, capacity;
    size_t *histogram;       /* kept rows by distance */
    size_t k, under;         /* how many are wanted, how many are nearer than the limit */
    int64_t found;           /* by a radius search, kept or not */
    bool bounded;            /* the limit falls as rows are found (top k), or stays (radius) */
} query;

typedef struct {
    const uint8_t *words; /* word w of row r is at r * row_step + w * word_step */
    size_t row_step, word_step, n;
    int64_t first;       /* row of the gallery that row 0 is, unless rows says it */
    const int64_t *rows;
    const uint8_t *allow; /* bitmap of the gallery, still to be asked */
} block;

ALWAYS_INLINE uint64_t load_word(const uint8_t *at) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* Asks for memory before it is needed; it may lie past the end of the codes, where there is nothing to be had. */
ALWAYS_INLINE void prefetch(const uint8_t *at, size_t ahead) {
    __builtin_prefetch((const void *)((uintptr_t)at + ahead));
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

ALWAYS_INLINE bool is_allowed(const uint8_t *allow, int64_t row) { return allow[row >> 3] >> (row & 7) & 1; }

/* Drops what the limit has made useless; k rows stay. */
static void shrink(query *q) {
    size_t n = 0, at_limit = q->k - q->under;
    for (size_t i = 0; i < q->n_kept; i++) {
        const uint64_t distance = q->kept[i] >> 48;
        if (distance > q->limit || (distance == q->limit && at_limit == 0)) continue;
        at_limit -= distance == q->limit;
        q->kept[n++] = q->kept[i];
    }
    q->n_kept = n;
}

static void keep(query *q, uint64_t distance, int64_t row) {
    const uint64_t entry = distance << 48 | (uint64_t)row;
    if (!q->bounded) {
        if (q->n_kept < q->capacity) q->kept[q->n_kept++] = entry;
        q->found++;
        return;
    }
    if (q->n_kept == q->capacity) shrink(q);
    q->kept[q->n_kept++] = entry;
    q->histogram[distance]++;
    for (q->under++; q->under >= q->k;) q->under -= q->histogram[--q->limit];
}

ALWAYS_INLINE void offer(query *q, const block *b, size_t r, unsigned distance) {
    if (distance >= q->limit) return;
    const int64_t row = b->rows ? b->rows[r] : b->first + (int64_t)r;
    if (!b->allow || is_allowed(b->allow, row)) keep(q, distance, row);
}

/* A probe is a query as slices want it, in few bytes, for all of a batch pass through the first-level cache with every
 * slice: MAX_BIAS masks of 32 bits, the bits of 2^m - limit; then, for each group of bits, how many bytes into its
 * planes those of the query's pattern are, in 16 bits. */
ALWAYS_INLINE size_t probe_bytes(size_t n_words) {
    return MAX_BIAS * sizeof(uint32_t) + n_words * GROUPS * sizeof(uint16_t);
}

ALWAYS_INLINE uint32_t bias_bits(const uint8_t *probe, size_t i) {
    uint32_t bits;
    memcpy(&bits, probe + i * sizeof bits, sizeof bits);
    return bits;
}

ALWAYS_INLINE size_t offset_of(const uint8_t *program, size_t g) {
    uint16_t offset;
    memcpy(&offset, program + g * sizeof offset, sizeof offset);
    return offset;
}

static void set_bias(query *q, size_t n_words) {
    if (q->biased == q->limit + 1) return;
    q->biased = q->limit + 1;
    unsigned m = 6;
    for (size_t left = n_words; left; left /= 2) m++;
    /* A limit of 0 cannot be told; 1 lets too much through, which offer stops. */
    const uint32_t bias = (UINT32_C(1) << m) - (q->limit ? (uint32_t)q->limit : 1);
    for (unsigned i = 0; i < m; i++) {
        const uint32_t bits = -(bias >> i & 1);
        memcpy(q->probe + i * sizeof bits, &bits, sizeof bits);
    }
}

/* ---- levels ---- */

typedef struct {
    const char *name;
    size_t lanes;
    size_t slice_queries[2]; /* from so many queries on making planes pays: for codes of one word, for longer ones */
    bool (*available)(void);
    void (*count_block)(const block *b, query *queries, size_t n, size_t n_words);
    void (*slice)(const block *b, size_t r, query *queries, size_t n, size_t n_words, void *scratch);
} level;

#define FULL_ADD_PLAIN(sum, carry, a, b, c)           \
    do {                                              \
        const __typeof__(a) a_ = (a), b_ = (b), c_ = (c), t_ = a_ ^ b_; \
        (carry) = (a_ & b_) | (c_ & t_);              \
        (sum) = t_ ^ c_;                              \
    } while (0)

/* Loaded once, into a register: else the compiler reads it again for each of its uses. */
#ifdef ON_X86
#define IN_REGISTER(v) __asm__("" : "+v"(v))
#elif defined(ON_ARM)
#define IN_REGISTER(v) __asm__("" : "+w"(v))
#else
#define IN_REGISTER(v) (void)(v)
#endif

#ifdef ON_X86

#define LEVEL avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vpopcntdq,popcnt,bmi")))
#define LANES 8
#define EVEN_LANES 0, 2, 4, 6, 8, 10, 12, 14
#define ODD_LANES 1, 3, 5, 7, 9, 11, 13, 15
#define EVEN_WORDS EVEN_LANES
#define ODD_WORDS ODD_LANES
#define FIRST_WORD EVEN_LANES
#define SECOND_WORD ODD_LANES
/* The carry is made of the new sum: where b = c it is b, else the inverted sum. So no register has to be copied. */
#define FULL_ADD(sum, carry, a, b, c)                                                   \
    do {                                                                                \
        const __m512i b_ = (__m512i)(b), c_ = (__m512i)(c);                             \
        const __m512i s_ = _mm512_ternarylogic_epi64((__m512i)(a), b_, c_, 0x96);       \
        (carry) = (__typeof__(carry))_mm512_ternarylogic_epi64(b_, s_, c_, 0xb2);      \
        (sum) = (__typeof__(sum))s_;                                                    \
    } while (0)
#define COUNT(v) ((__typeof__(v))_mm512_popcnt_epi64((__m512i)(v)))
#define FOLD(v) (v)
#define LESSER(a, b) ((__typeof__(a))_mm512_min_epu64((__m512i)(a), (__m512i)(b)))
#define NEARER(a, b) ((unsigned)_mm512_cmplt_epu64_mask((__m512i)(a), (__m512i)(b)))
#define ALL_ONES(v) (_mm512_cmpneq_epi64_mask((__m512i)(v), _mm512_set1_epi64(-1)) == 0)
#include "hamming_level.h"

static bool has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("bmi");
}

/* Ones of each byte, by looking up its halves (Mula). */
__attribute__((target("avx2"))) static inline __m256i count_bytes_avx2(__m256i v) {
    const __m256i ones = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                          0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(15);
    return _mm256_add_epi8(_mm256_shuffle_epi8(ones, _mm256_and_si256(v, low)),
                           _mm256_shuffle_epi8(ones, _mm256_and_si256(_mm256_srli_epi16(v, 4), low)));
}

#define LEVEL avx2
#define TARGET __attribute__((target("avx2,popcnt,bmi")))
#define LANES 4
#define EVEN_LANES 0, 2, 4, 6
#define ODD_LANES 1, 3, 5, 7
#define EVEN_WORDS 0, 4, 2, 6 /* one instruction each, where the lanes above take two */
#define ODD_WORDS 1, 5, 3, 7
#define FIRST_WORD 0, 1, 4, 5
#define SECOND_WORD 2, 3, 6, 7
#define FULL_ADD FULL_ADD_PLAIN
#define COUNT(v) ((__typeof__(v))count_bytes_avx2((__m256i)(v)))
#define FOLD(v) ((__typeof__(v))_mm256_sad_epu8((__m256i)(v), _mm256_setzero_si256()))
#define LESSER(a, b) ((__typeof__(a))_mm256_min_epu32((__m256i)(a), (__m256i)(b)))
#define NEARER(a, b) \
    ((unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64((__m256i)(b), (__m256i)(a)))))
#define ALL_ONES(v) (_mm256_testc_si256((__m256i)(v), _mm256_set1_epi64x(-1)) != 0)
#include "hamming_level.h"

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("bmi");
}

#elif defined(ON_ARM)

#define LEVEL neon
#define TARGET
#define LANES 2
#define EVEN_LANES 0, 2
#define ODD_LANES 1, 3
#define EVEN_WORDS EVEN_LANES
#define ODD_WORDS ODD_LANES
#define FIRST_WORD EVEN_LANES
#define SECOND_WORD ODD_LANES
#define FULL_ADD(sum, carry, a, b, c)                                                                            \
    do {                                                                                                         \
        const uint64x2_t a_ = (uint64x2_t)(a), b_ = (uint64x2_t)(b), c_ = (uint64x2_t)(c), t_ = veorq_u64(a_, b_); \
        (carry) = (__typeof__(carry))vbslq_u64(t_, c_, a_);                                                      \
        (sum) = (__typeof__(sum))veorq_u64(t_, c_);                                                              \
    } while (0)
#define COUNT(v) ((__typeof__(v))vcntq_u8((uint8x16_t)(v)))
#define FOLD(v) ((__typeof__(v))vpaddlq_u32(vpaddlq_u16(vpaddlq_u8((uint8x16_t)(v)))))
#define LESSER(a, b) ((__typeof__(a))vminq_u32((uint32x4_t)(a), (uint32x4_t)(b)))
#define NEARER(a, b) ((unsigned)((a)[0] < (b)[0]) | (unsigned)((a)[1] < (b)[1]) << 1)
#define ALL_ONES(v) (vminvq_u32((uint32x4_t)(v)) == UINT32_MAX)
#include "hamming_level.h"

static bool has_neon(void) { return true; }

#endif

/* Ones of a word, without an instruction for it. */
ALWAYS_INLINE uint64_t count_word(uint64_t x) {
    x -= x >> 1 & 0x5555555555555555;
    x = (x & 0x3333333333333333) + (x >> 2 & 0x3333333333333333);
    return ((x + (x >> 4)) & 0x0f0f0f0f0f0f0f0f) * 0x0101010101010101 >> 56;
}

/* Two words at a time, which most processors can do even where they have no level of their own. */
#define LEVEL portable
#define TARGET
#define LANES 2
#define EVEN_LANES 0, 2
#define ODD_LANES 1, 3
#define EVEN_WORDS EVEN_LANES
#define ODD_WORDS ODD_LANES
#define FIRST_WORD EVEN_LANES
#define SECOND_WORD ODD_LANES
#define FULL_ADD FULL_ADD_PLAIN
#define COUNT(v) ((__typeof__(v)){count_word((v)[0]), count_word((v)[1])})
#define FOLD(v) (v)
#define LESSER(a, b) ((__typeof__(a)){(a)[0] < (b)[0] ? (a)[0] : (b)[0], (a)[1] < (b)[1] ? (a)[1] : (b)[1]})
#define NEARER(a, b) ((unsigned)((a)[0] < (b)[0]) | (unsigned)((a)[1] < (b)[1]) << 1)
#define ALL_ONES(v) (((v)[0] & (v)[1]) == UINT64_MAX)
#include "hamming_level.h"

static bool has_portable(void) { return true; }

static const level LEVELS[] = {
#ifdef ON_X86
    {"avx512", 8, {20, 36}, has_avx512, count_block_avx512, slice_avx512},
    {"avx2", 4, {8, 8}, has_avx2, count_block_avx2, slice_avx2},
#elif defined(ON_ARM)
    {"neon", 2, {8, 8}, has_neon, count_block_neon, slice_neon},
#endif
    {"portable", 2, {4, 4}, has_portable, count_block_portable, slice_portable},
};
enum { N_LEVELS = sizeof LEVELS / sizeof *LEVELS };

static _Atomic(const level *) chosen;

static const level *current_level(void) {
    const level *in_use = atomic_load(&chosen);
    if (in_use) return in_use;
    for (in_use = LEVELS; !in_use->available();) in_use++; /* portable is always there */
    atomic_store(&chosen, in_use);
    return in_use;
}

const char *hamming_level(void) { return current_level()->name; }

int hamming_set_level(const char *name) {
    if (!name) return HAMMING_BAD_ARGUMENT;
    for (size_t i = 0; i < N_LEVELS; i++)
        if (strcmp(name, LEVELS[i].name) == 0 && LEVELS[i].available()) {
            atomic_store(&chosen, &LEVELS[i]);
            return HAMMING_OK;
        }
    return HAMMING_NO_LEVEL;
}

const char *hamming_available_level(int i) {
    for (size_t j = 0; j < N_LEVELS; j++)
        if (LEVELS[j].available() && i-- == 0) return LEVELS[j].name;
    return NULL;
}

#ifndef DUCH_SOURCE_SHA256
#define DUCH_SOURCE_SHA256 ""
#endif
const char *hamming_source_sha256(void) { return DUCH_SOURCE_SHA256; }

/* ---- blocks ---- */

/* Reads rows [next, stop) of the gallery, or entries [next, stop) of the list, as blocks. */
typedef struct {
    const hamming_gallery *gallery;
    size_t block_rows;
    double whole_share; /* of a block's rows: where so many are allowed it is read whole */
    int64_t next, stop;
    uint8_t *words;  /* n_words * block_rows words */
    int64_t *picked; /* block_rows rows that are allowed but not yet read, n_picked of them */
    size_t n_picked;
} reader;

/* Bytes that are not a whole word stand at the low end of the last word: both codes of a pair are read alike. */
ALWAYS_INLINE uint64_t load_end(const uint8_t *at, size_t n_bytes) {
    uint64_t word = 0;
    for (size_t i = 0; i < n_bytes; i++) word |= (uint64_t)at[i] << (8 * i);
    return word;
}

static void read_words(const hamming_gallery *g, int64_t first, const int64_t *rows, size_t n, size_t pitch,
                       uint8_t *words) {
    const size_t n_bytes = (size_t)g->n_bytes, whole = n_bytes / 8, rest = n_bytes % 8;
    for (size_t r = 0; r < n; r++) {
        const uint8_t *code = g->codes + (size_t)(rows ? rows[r] : first + (int64_t)r) * n_bytes;
        if (!rows)
            prefetch(code, AHEAD);
        else if (r + 16 < n)
            prefetch(g->codes, (size_t)rows[r + 16] * n_bytes);
        for (size_t w = 0; w < whole; w++) memcpy(words + 8 * (w * pitch + r), code + 8 * w, 8);
        if (rest) {
            const uint64_t word = load_end(code + 8 * whole, rest);
            memcpy(words + 8 * (whole * pitch + r), &word, 8);
        }
    }
}

static block gather(reader *in, const int64_t *rows, size_t n) {
    read_words(in->gallery, 0, rows, n, in->block_rows, in->words);
    return (block){.words = in->words, .row_step = 8, .word_step = 8 * in->block_rows, .n = n, .rows = rows};
}

static block consecutive(reader *in, int64_t first, size_t n, const uint8_t *allow) {
    const hamming_gallery *g = in->gallery;
    block b = {.n = n, .first = first, .allow = allow};
    if (g->n_bytes == 8 || g->n_bytes == 16 || g->n_bytes == 32) {
        b.words = g->codes + first * g->n_bytes;
        b.row_step = (size_t)g->n_bytes;
        b.word_step = 8;
    } else {
        read_words(g, first, NULL, n, in->block_rows, in->words);
        b.words = in->words;
        b.row_step = 8;
        b.word_step = 8 * in->block_rows;
    }
    return b;
}

/* 64 rows of the bitmap, or the n that are left; bit i is row first + i, which is a multiple of 8. */
ALWAYS_INLINE uint64_t allowed_bits(const uint8_t *allow, int64_t first, size_t n) {
    const uint8_t *at = allow + first / 8;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (n >= 64) return load_word(at);
#endif
    const uint64_t bits = load_end(at, n < 64 ? (n + 7) / 8 : 8);
    return n < 64 ? bits & ((UINT64_C(1) << n) - 1) : bits;
}

static size_t count_allowed(const uint8_t *allow, int64_t first, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i += 64) count += (size_t)count_word(allowed_bits(allow, first + (int64_t)i, n - i));
    return count;
}

static void pick(reader *in, int64_t first, size_t n) {
    const hamming_gallery *g = in->gallery;
    for (size_t i = 0; i < n; i += 64) {
        uint64_t bits = allowed_bits(g->allow, first + (int64_t)i, n - i);
        for (; bits; bits &= bits - 1) {
            const int64_t row = first + (int64_t)i + __builtin_ctzll(bits);
            prefetch(g->codes, (size_t)row * (size_t)g->n_bytes);
            in->picked[in->n_picked++] = row;
        }
    }
}

static bool next_block(reader *in, block *b) {
    const hamming_gallery *g = in->gallery;
    if (g->listed) {
        const size_t n = smaller((size_t)(in->stop - in->next), in->block_rows);
        if (n == 0) return false;
        *b = gather(in, g->listed + in->next, n);
        in->next += (int64_t)n;
        return true;
    }
    /* Where most rows are allowed a block is read whole, and the bitmap is asked for the near ones alone; else the
     * allowed rows are gathered, until they fill a block. */
    while (in->next < in->stop) {
        const int64_t first = in->next;
        const size_t n = smaller((size_t)(in->stop - first), in->block_rows);
        const size_t allowed = g->allow ? count_allowed(g->allow, first, n) : n;
        const bool whole = (double)allowed >= in->whole_share * (double)n;
        if (in->n_picked && (whole || in->n_picked + allowed > in->block_rows)) break;
        in->next += (int64_t)n;
        if (whole) {
            *b = consecutive(in, first, n, allowed < n ? g->allow : NULL);
            return true;
        }
        if (allowed) pick(in, first, n);
    }
    if (in->n_picked == 0) return false;
    *b = gather(in, in->picked, in->n_picked);
    in->n_picked = 0;
    return true;
}

/* ---- search ---- */

/* What is asked, and how it is cut up. */
typedef struct {
    const hamming_gallery *gallery;
    const level *level;
    const uint8_t *queries;
    size_t k;        /* rows to keep for each query; for a radius, the room there is */
    size_t width;    /* values of a query in distances and rows */
    uint64_t limit;  /* to begin with */
    bool bounded;    /* k nearest, or all within a radius */
    int32_t *distances;
    int64_t *rows, *found;
    size_t n_bits, n_words, block_rows, batch;
} search;

/* What one thread does: some of the queries over some of the rows. */
typedef struct {
    const search *search;
    int64_t query, n_queries;
    int64_t start, stop; /* of the rows, or of the listed ones */
    bool whole;          /* all of the rows, so that the results are final */
    void *memory;
    query *states; /* batch */
    uint8_t *words;
    int64_t *picked;
    void *slices;
} task;

/* The next part of the scratch, aligned for vectors; without memory it is only measured. */
static void *part(uint8_t *memory, size_t *used, size_t bytes) {
    void *at = memory ? memory + *used : NULL;
    *used += (bytes + 63) / 64 * 64;
    return at;
}

static size_t lay_out(task *t, uint8_t *memory) {
    const search *s = t->search;
    const size_t capacity = s->bounded ? 2 * s->k : s->k;
    const bool sliced = s->n_words <= MAX_SLICE_WORDS;
    size_t used = 0;
    t->states = part(memory, &used, s->batch * sizeof *t->states);
    t->words = part(memory, &used, s->n_words * s->block_rows * 8);
    t->picked = part(memory, &used, s->block_rows * sizeof *t->picked);
    t->slices =
        part(memory, &used, sliced ? 8 * s->level->lanes * (s->n_words * GROUPS * 2 * PATTERNS + s->batch) : 0);
    uint8_t *probes = part(memory, &used, sliced ? s->batch * probe_bytes(s->n_words) : 0);
    for (size_t i = 0; i < s->batch; i++) {
        uint64_t *code = part(memory, &used, s->n_words * sizeof *code);
        size_t *histogram = part(memory, &used, (s->n_bits + 2) * sizeof *histogram);
        uint64_t *kept = part(memory, &used, capacity * sizeof *kept);
        if (memory)
            t->states[i] = (query){.code = code, .probe = sliced ? probes + i * probe_bytes(s->n_words) : NULL,
                                   .kept = kept, .capacity = capacity, .histogram = histogram, .k = s->k,
                                   .bounded = s->bounded};
    }
    return used;
}

static int allocate(task *t) {
    const size_t bytes = lay_out(t, NULL);
    t->memory = malloc(bytes + 63);
    if (!t->memory) return HAMMING_NO_MEMORY;
    lay_out(t, (uint8_t *)(((uintptr_t)t->memory + 63) & ~(uintptr_t)63));
    return HAMMING_OK;
}

static void begin(const search *s, query *q, int64_t i) {
    const size_t n_words = s->n_words;
    const hamming_gallery one = {.codes = s->queries + i * s->gallery->n_bytes, .n_rows = 1,
                                 .n_bytes = s->gallery->n_bytes};
    read_words(&one, 0, NULL, 1, 1, (uint8_t *)q->code);
    if (n_words <= MAX_SLICE_WORDS)
        for (size_t g = 0; g < n_words * GROUPS; g++) {
            const uint64_t pattern = q->code[g / GROUPS] >> (3 * (g % GROUPS)) & (PATTERNS - 1);
            const uint16_t offset = (uint16_t)(pattern * 2 * 8 * s->level->lanes);
            memcpy(q->probe + MAX_BIAS * sizeof(uint32_t) + g * sizeof offset, &offset, sizeof offset);
        }
    memset(q->histogram, 0, (s->n_bits + 2) * sizeof *q->histogram);
    q->limit = s->limit;
    q->biased = 0;
    q->n_kept = q->under = 0;
    q->found = 0;
}

static block part_of(const block *b, size_t from, size_t n) {
    block rest = *b;
    rest.words += from * b->row_step;
    rest.first += (int64_t)from;
    if (rest.rows) rest.rows += from;
    rest.n = n;
    return rest;
}

static void scan_block(const task *t, const block *b, size_t n, size_t *seen) {
    const search *s = t->search;
    const size_t slice_rows = 64 * s->level->lanes;
    size_t r = 0;
    if (s->n_words <= MAX_SLICE_WORDS && n >= s->level->slice_queries[s->n_words > 1]) {
        /* While most rows are near, counting is quicker: its limit falls from row to row, not from slice to slice. */
        const size_t dense = s->bounded ? BLOCK_ROWS_MIN > 4 * s->k ? BLOCK_ROWS_MIN : 4 * s->k : 0;
        if (*seen < dense) {
            r = smaller(b->n, dense - *seen);
            const block first = part_of(b, 0, r);
            s->level->count_block(&first, t->states, n, s->n_words);
        }
        if (r + slice_rows <= b->n)
            for (size_t i = 0; i < n; i++) set_bias(t->states + i, s->n_words);
        for (; r + slice_rows <= b->n; r += slice_rows)
            s->level->slice(b, r, t->states, n, s->n_words, t->slices);
    }
    const block rest = part_of(b, r, b->n - r);
    s->level->count_block(&rest, t->states, n, s->n_words);
    *seen += b->n;
}

/* Writes a query's results in order, by counting how many rows are at each distance. */
static void write_results(const search *s, query *q, int64_t i) {
    if (s->bounded && q->n_kept > q->k) shrink(q);
    if (!s->bounded) {
        s->found[i] = q->found;
        if (s->width == 0 || q->found > (int64_t)q->n_kept) return;
    }
    int32_t *distances = s->distances + (size_t)i * s->width;
    int64_t *rows = s->rows + (size_t)i * s->width;
    size_t *place = q->histogram; /* of the next row at each distance */
    memset(place, 0, (s->n_bits + 2) * sizeof *place);
    for (size_t j = 0; j < q->n_kept; j++) place[(q->kept[j] >> 48) + 1]++;
    for (size_t d = 0; d <= s->n_bits; d++) place[d + 1] += place[d];
    for (size_t j = 0; j < q->n_kept; j++) {
        const uint64_t distance = q->kept[j] >> 48;
        const size_t at = place[distance]++;
        distances[at] = (int32_t)distance;
        rows[at] = (int64_t)(q->kept[j] & ((UINT64_C(1) << 48) - 1));
    }
    if (s->bounded)
        for (size_t j = q->n_kept; j < s->width; j++) distances[j] = -1, rows[j] = -1;
}

/* Reading a row in its turn costs some 0.3 ns a word, comparing it some 0.06 ns a word and query, and gathering it 5 ns
 * more. */
static double whole_share(size_t n_queries, size_t n_words) {
    const double compare = 0.06 * (double)n_queries * (double)n_words, read = 0.3 * (double)n_words;
    return (read + compare) / (read + compare + 5);
}

static void *run(void *argument) {
    task *t = argument;
    const search *s = t->search;
    for (int64_t done = 0; done < t->n_queries; done += (int64_t)s->batch) {
        const size_t n = smaller(s->batch, (size_t)(t->n_queries - done));
        reader in = {.gallery = s->gallery, .block_rows = s->block_rows, .next = t->start, .stop = t->stop,
                     .words = t->words, .picked = t->picked, .whole_share = whole_share(n, s->n_words)};
        block b;
        size_t seen = 0;
        for (size_t i = 0; i < n; i++) begin(s, t->states + i, t->query + done + (int64_t)i);
        while (next_block(&in, &b)) scan_block(t, &b, n, &seen);
        if (t->whole)
            for (size_t i = 0; i < n; i++) write_results(s, t->states + i, t->query + done + (int64_t)i);
    }
    return NULL;
}

static void run_all(task *tasks, size_t n) {
#ifndef DUCH_NO_THREADS
    pthread_t threads[HAMMING_MAX_THREADS];
    bool started[HAMMING_MAX_THREADS];
    for (size_t i = 1; i < n; i++) started[i] = pthread_create(&threads[i], NULL, run, &tasks[i]) == 0;
    run(&tasks[0]);
    for (size_t i = 1; i < n; i++) {
        if (started[i])
            pthread_join(threads[i], NULL);
        else
            run(&tasks[i]);
    }
#else
    for (size_t i = 0; i < n; i++) run(&tasks[i]);
#endif
}

/* Adds what was found in later rows. */
static void merge(query *into, const query *later) {
    for (size_t i = 0; i < later->n_kept; i++) {
        const uint64_t distance = later->kept[i] >> 48;
        if (distance < into->limit) keep(into, distance, (int64_t)(later->kept[i] & ((UINT64_C(1) << 48) - 1)));
    }
    if (!into->bounded) into->found += later->found - (int64_t)later->n_kept;
}

/* Threads share the rows, each searching in its own for all queries of a batch; or, where rows are few, the queries. */
static int search_in_threads(search *s, int64_t n_queries, int n_threads) {
    const hamming_gallery *g = s->gallery;
    const int64_t n_rows = g->listed ? g->n_listed : g->n_rows;
    const double words = (double)n_rows * (double)n_queries * (double)s->n_words;
    size_t n_tasks = (size_t)n_threads;
    if (words / THREAD_WORDS < (double)n_tasks) n_tasks = (size_t)(words / THREAD_WORDS) + 1;
#ifdef DUCH_NO_THREADS
    n_tasks = 1;
#endif
    const bool by_rows = n_tasks > 1 && n_rows / (int64_t)n_tasks >= THREAD_ROWS;
    if (!by_rows) n_tasks = smaller(n_tasks, (size_t)n_queries);

    task *tasks = calloc(n_tasks, sizeof *tasks);
    int status = tasks ? HAMMING_OK : HAMMING_NO_MEMORY;
    for (size_t i = 0; status == HAMMING_OK && i < n_tasks; i++) {
        task *t = &tasks[i];
        const int64_t part = (int64_t)i, parts = (int64_t)n_tasks;
        t->search = s;
        t->whole = !by_rows;
        t->start = by_rows ? n_rows / 64 * part / parts * 64 : 0;
        t->stop = by_rows && part + 1 < parts ? n_rows / 64 * (part + 1) / parts * 64 : n_rows;
        t->query = by_rows ? 0 : n_queries * part / parts;
        t->n_queries = by_rows ? 0 : n_queries * (part + 1) / parts - t->query;
        status = allocate(t);
    }
    if (status == HAMMING_OK && !by_rows) run_all(tasks, n_tasks);
    for (int64_t first = 0; status == HAMMING_OK && by_rows && first < n_queries; first += (int64_t)s->batch) {
        const size_t n = smaller(s->batch, (size_t)(n_queries - first));
        for (size_t i = 0; i < n_tasks; i++) tasks[i].query = first, tasks[i].n_queries = (int64_t)n;
        run_all(tasks, n_tasks);
        for (size_t q = 0; q < n; q++) {
            for (size_t i = 1; i < n_tasks; i++) merge(tasks[0].states + q, tasks[i].states + q);
            write_results(s, tasks[0].states + q, first + (int64_t)q);
        }
    }
    for (size_t i = 0; tasks && i < n_tasks; i++) free(tasks[i].memory);
    free(tasks);
    return status;
}

static bool is_usable(const hamming_gallery *g) {
    if (!g || g->n_rows < 0 || g->n_rows > HAMMING_MAX_ROWS || g->n_bytes < 1 || g->n_bytes > HAMMING_MAX_BYTES ||
        g->n_rows > PTRDIFF_MAX / g->n_bytes)
        return false;
    if ((!g->codes && g->n_rows) || (g->allow && g->listed) || g->n_listed < 0) return false;
    for (int64_t i = 0, above = -1; g->listed && i < g->n_listed; above = g->listed[i++])
        if (g->listed[i] <= above || g->listed[i] >= g->n_rows) return false;
    return true;
}

/* Whether an array of n_queries * width results can be. */
static bool has_room(int64_t n_queries, int64_t width) {
    return width <= PTRDIFF_MAX / (int64_t)sizeof(int64_t) / n_queries;
}

static int start(search *s, int64_t n_queries, int n_threads) {
    if (s->k > (size_t)PTRDIFF_MAX / 32) return HAMMING_NO_MEMORY; /* the size of the scratch would not fit a size_t */
    s->level = current_level();
    s->n_bits = (size_t)s->gallery->n_bytes * 8;
    s->n_words = (s->n_bits + 63) / 64;
    s->block_rows = BLOCK_WORDS / s->n_words / BLOCK_ROWS_MIN * BLOCK_ROWS_MIN;
    if (s->block_rows < BLOCK_ROWS_MIN) s->block_rows = BLOCK_ROWS_MIN;
    const size_t for_one = 16 * s->k + 8 * s->n_bits;
    s->batch = BATCH_SCRATCH / for_one;
    if (s->batch > MAX_BATCH) s->batch = MAX_BATCH;
    if (s->batch < 1) s->batch = 1;
    s->batch = smaller(s->batch, (size_t)n_queries);
    return search_in_threads(s, n_queries, n_threads);
}

int hamming_top_k(const hamming_gallery *gallery, const uint8_t *queries, int64_t n_queries, int64_t k, int n_threads,
                  int32_t *distances, int64_t *rows) {
    if (!is_usable(gallery) || n_queries < 0 || k < 1 || n_threads < 1 || n_threads > HAMMING_MAX_THREADS)
        return HAMMING_BAD_ARGUMENT;
    if (n_queries == 0) return HAMMING_OK;
    if (!queries || !distances || !rows || !has_room(n_queries, k)) return HAMMING_BAD_ARGUMENT;
    const int64_t reachable = gallery->listed ? gallery->n_listed : gallery->n_rows;
    search s = {.gallery = gallery, .queries = queries, .width = (size_t)k, .bounded = true,
                .distances = distances, .rows = rows};
    s.k = reachable == 0 ? 1 : smaller((size_t)k, (size_t)reachable);
    s.limit = (uint64_t)gallery->n_bytes * 8 + 1;
    return start(&s, n_queries, n_threads);
}

int hamming_within(const hamming_gallery *gallery, const uint8_t *queries, int64_t n_queries, int64_t radius,
                   int n_threads, int64_t capacity, int32_t *distances, int64_t *rows, int64_t *found) {
    if (!is_usable(gallery) || n_queries < 0 || radius < 0 || n_threads < 1 || n_threads > HAMMING_MAX_THREADS ||
        capacity < 0)
        return HAMMING_BAD_ARGUMENT;
    if (n_queries == 0) return HAMMING_OK;
    if (!queries || !found || (capacity && (!distances || !rows)) || !has_room(n_queries, capacity))
        return HAMMING_BAD_ARGUMENT;
    const int64_t reachable = gallery->listed ? gallery->n_listed : gallery->n_rows;
    search s = {.gallery = gallery, .queries = queries, .width = (size_t)capacity, .bounded = false,
                .distances = distances, .rows = rows, .found = found};
    s.k = smaller((size_t)capacity, (size_t)reachable);
    s.limit = smaller((size_t)radius, (size_t)gallery->n_bytes * 8) + 1;
    return start(&s, n_queries, n_threads);
}
