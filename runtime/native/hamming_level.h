/* The scan for one kind of processor. hamming.c includes this once for each level, after it has defined
 *
 *     LEVEL     suffix of the names       TARGET   function attribute that allows its instructions
 *     LANES     64-bit words in a vector  FULL_ADD(sum, carry, a, b, c)   of three planes of bits
 *     COUNT(v)  something that can be added up over the words of a code, at most 4 of them ...
 *     FOLD(v)   ... and then becomes the number of ones in each lane
 *     LESSER(a, b)      the smaller of each lane, both below 2^32
 *     NEARER(a, b)      bit l is lane l of a < lane l of b, for lanes below 2^32
 *     ALL_ONES(v)       every bit of the vector is 1
 *     EVEN_LANES, ODD_LANES      0, 2, 4 ... 2 * LANES - 2 and 1, 3, 5 ..., of two vectors side by side
 *     EVEN_WORDS, ODD_WORDS      of codes of four words, words 0 and 2 and words 1 and 3 of all rows in two vectors;
 *     FIRST_WORD, SECOND_WORD    from two such vectors, the former and the latter word. The lanes above will do.
 *
 * There are two ways through a block. `count_block` counts the ones of code ^ query word by word: the way for few
 * queries, where memory is the limit. `slice` is for batches: it turns LANES * 64 rows into planes, plane j holding bit
 * j of each of them, and adds up the bits that differ from a query's with adders of whole planes. The planes are made
 * once and serve all queries, and so do the sums of each three bits. With AVX-512 a query then takes 79 operations for
 * 512 rows of 64 bits, where counting takes 3 for 8 rows: 0.035 and 0.08 ns a row (Sapphire Rapids, 3.5 GHz). */

#define JOIN_(name, level) name##_##level
#define JOIN(name, level) JOIN_(name, level)
#define FN(name) JOIN(name, LEVEL)
#define vec FN(vector)

typedef uint64_t vec __attribute__((vector_size(8 * LANES)));
typedef uint32_t FN(halves) __attribute__((vector_size(8 * LANES)));

ALWAYS_INLINE TARGET vec FN(load)(const void *from) {
    vec v;
    memcpy(&v, from, sizeof v);
    return v;
}

/* A plane of zeros or of ones: `bits` is 0 or all ones. */
ALWAYS_INLINE TARGET vec FN(fill)(uint32_t bits) { return (vec)((FN(halves)){0} + bits); }

ALWAYS_INLINE TARGET unsigned FN(distance)(const block *b, size_t r, const uint64_t *code, size_t n_words) {
    const uint8_t *at = b->words + r * b->row_step;
    unsigned sum = 0;
    for (size_t w = 0; w < n_words; w++)
        sum += (unsigned)__builtin_popcountll(load_word(at + w * b->word_step) ^ code[w]);
    return sum;
}

/* Word by word the codes of the LANES rows from r. `rows`: the block holds them row by row, and n_words is 2 or 4. */
ALWAYS_INLINE TARGET void FN(load_rows)(const block *b, size_t r, const size_t n_words, const bool rows, vec *words) {
    const uint8_t *at = b->words + r * b->row_step;
    if (!rows) {
        for (size_t w = 0; w < n_words; w++) words[w] = FN(load)(at + w * b->word_step);
        return;
    }
    vec v[4];
    UNROLL for (size_t i = 0; i < n_words; i++) v[i] = FN(load)(at + i * sizeof(vec));
    if (n_words == 2) {
        words[0] = SHUFFLE(vec, v[0], v[1], EVEN_LANES);
        words[1] = SHUFFLE(vec, v[0], v[1], ODD_LANES);
        return;
    }
    const vec even0 = SHUFFLE(vec, v[0], v[1], EVEN_WORDS), even1 = SHUFFLE(vec, v[2], v[3], EVEN_WORDS);
    const vec odd0 = SHUFFLE(vec, v[0], v[1], ODD_WORDS), odd1 = SHUFFLE(vec, v[2], v[3], ODD_WORDS);
    words[0] = SHUFFLE(vec, even0, even1, FIRST_WORD);
    words[1] = SHUFFLE(vec, odd0, odd1, FIRST_WORD);
    words[2] = SHUFFLE(vec, even0, even1, SECOND_WORD);
    words[3] = SHUFFLE(vec, odd0, odd1, SECOND_WORD);
}

/* ---- few queries ---- */

/* Distances of LANES rows, whose words are given, from a query. */
ALWAYS_INLINE TARGET vec FN(distances)(const vec *words, const uint64_t *code, const size_t n_words) {
    vec sum = {0};
    for (size_t w = 0; w < n_words; w++) sum += COUNT(words[w] ^ code[w]);
    return FOLD(sum);
}

/* The same for codes longer than four words, read from the block. */
ALWAYS_INLINE TARGET vec FN(long_distances)(const block *b, size_t r, const uint64_t *code, size_t n_words) {
    vec sum = {0};
    for (size_t w = 0; w < n_words; w++)
        sum += FOLD(COUNT(FN(load)(b->words + r * b->row_step + w * b->word_step) ^ code[w]));
    return sum;
}

/* Offers the near ones of the 64 rows from r. */
ALWAYS_INLINE TARGET void FN(offer_near)(const block *b, size_t r, query *q, const size_t n_words, const bool rows) {
    const vec limit = (vec){0} + q->limit;
    uint64_t near = 0;
    for (size_t i = 0; i < 64; i += LANES) {
        vec words[4], distances;
        if (n_words <= 4) {
            FN(load_rows)(b, r + i, n_words, rows, words);
            distances = FN(distances)(words, q->code, n_words);
        } else
            distances = FN(long_distances)(b, r + i, q->code, n_words);
        near |= (uint64_t)NEARER(distances, limit) << i;
    }
    for (; near; near &= near - 1) {
        const size_t row = r + (size_t)__builtin_ctzll(near);
        offer(q, b, row, FN(distance)(b, row, q->code, n_words));
    }
}

/* `shared` queries pass over the block side by side, so that they share every loaded vector. */
ALWAYS_INLINE TARGET void FN(count_shared)(const block *b, query *queries, const size_t shared, const size_t n_words,
                                           const bool rows) {
    size_t r = 0;
    for (; r + 64 <= b->n; r += 64) {
        vec least[4];
        unsigned near[4], any = 0;
        for (size_t s = 0; s < shared; s++) least[s] = (vec){0} + UINT32_MAX;
        for (size_t i = 0; i < 64; i += LANES) {
            vec words[4];
            for (size_t at = 0; at < 8 * LANES * n_words; at += 64)
                prefetch(b->words + (r + i) * b->row_step, AHEAD + at);
            if (n_words <= 4) FN(load_rows)(b, r + i, n_words, rows, words);
            for (size_t s = 0; s < shared; s++)
                least[s] = LESSER(least[s], n_words <= 4 ? FN(distances)(words, queries[s].code, n_words)
                                                         : FN(long_distances)(b, r + i, queries[s].code, n_words));
        }
        for (size_t s = 0; s < shared; s++) any |= near[s] = NEARER(least[s], (vec){0} + queries[s].limit);
        if (__builtin_expect(any != 0, 0))
            for (size_t s = 0; s < shared; s++)
                if (near[s]) FN(offer_near)(b, r, queries + s, n_words, rows);
    }
    for (; r < b->n; r++)
        for (size_t s = 0; s < shared; s++)
            offer(queries + s, b, r, FN(distance)(b, r, queries[s].code, n_words));
}

ALWAYS_INLINE TARGET void FN(count_words)(const block *b, query *queries, size_t n, const size_t n_words,
                                          const bool rows) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4) FN(count_shared)(b, queries + i, 4, n_words, rows);
    for (; i < n; i++) FN(count_shared)(b, queries + i, 1, n_words, rows);
}

static TARGET void FN(count_block)(const block *b, query *queries, size_t n, size_t n_words) {
    const bool rows = b->word_step == 8;
    if (n_words == 1)
        FN(count_words)(b, queries, n, 1, false);
    else if (n_words == 2 && rows)
        FN(count_words)(b, queries, n, 2, true);
    else if (n_words == 4 && rows)
        FN(count_words)(b, queries, n, 4, true);
    else
        FN(count_words)(b, queries, n, n_words, false);
}

/* ---- batches ---- */

/* Swaps halves of the 64-bit words of eight vectors, then quarters, then eighths, `distance` being 32; for 4 it goes
 * on from there. */
ALWAYS_INLINE TARGET void FN(swap_parts)(vec x[8], const unsigned distance) {
    UNROLL for (unsigned step = 0; step < 3; step++)
        UNROLL for (unsigned i = 0; i < 8; i++) {
            const unsigned other = i | (4u >> step), shift = distance >> step;
            if (other == i) continue;
            const vec moved = ((x[i] >> shift) ^ x[other]) & (UINT64_MAX / ((UINT64_C(1) << shift) + 1));
            x[other] ^= moved;
            x[i] ^= moved << shift;
        }
}

/* Bit i of lane l of x[j] becomes bit j of lane l of x[i]: 64 x 64 bits turned over in every lane. */
ALWAYS_INLINE TARGET void FN(transpose)(vec x[64]) {
    vec eight[8];
    for (unsigned j = 0; j < 8; j++) {
        UNROLL for (unsigned i = 0; i < 8; i++) eight[i] = x[j + 8 * i];
        FN(swap_parts)(eight, 32);
        UNROLL for (unsigned i = 0; i < 8; i++) x[j + 8 * i] = eight[i];
    }
    for (unsigned j = 0; j < 8; j++) {
        UNROLL for (unsigned i = 0; i < 8; i++) eight[i] = x[8 * j + i];
        FN(swap_parts)(eight, 4);
        UNROLL for (unsigned i = 0; i < 8; i++) x[8 * j + i] = eight[i];
    }
}

/* What three bits of a query can meet: for each of their 8 patterns the two planes of the distance 0..3 between the
 * pattern and those bits of the rows. 21 such groups and one of the last bit alone make a word. */
ALWAYS_INLINE TARGET void FN(make_groups)(const vec x[64], vec *planes) {
    for (size_t g = 0; g < GROUPS - 1; g++, planes += 2 * PATTERNS) {
        const vec a = x[3 * g], b = x[3 * g + 1], c = x[3 * g + 2];
        UNROLL for (unsigned pattern = 0; pattern < PATTERNS / 2; pattern++) {
            vec one, two;
            FULL_ADD(one, two, pattern & 1 ? ~a : a, pattern & 2 ? ~b : b, c);
            planes[2 * pattern] = one;
            planes[2 * pattern + 1] = two;
            planes[2 * (PATTERNS - 1 - pattern)] = ~one;
            planes[2 * (PATTERNS - 1 - pattern) + 1] = ~two;
        }
    }
    planes[0] = x[63];
    planes[2] = ~x[63];
}

ALWAYS_INLINE TARGET void FN(make_planes)(const block *b, size_t r, const size_t n_words, const bool rows,
                                          vec *planes) {
    vec x[4][64];
    const size_t together = rows ? n_words : 1;
    for (size_t w = 0; w < n_words; w += together) {
        for (size_t i = 0; i < 64; i++) {
            vec words[4];
            if (rows)
                FN(load_rows)(b, r + i * LANES, n_words, true, words);
            else
                words[0] = FN(load)(b->words + (r + i * LANES) * b->row_step + w * b->word_step);
            for (size_t t = 0; t < together; t++) x[t][i] = words[t];
        }
        for (size_t t = 0; t < together; t++) {
            FN(transpose)(x[t]);
            FN(make_groups)(x[t], planes + (w + t) * GROUPS * 2 * PATTERNS);
        }
    }
}

#define PLANE(g, i) FN(load_plane)(planes + ((g) * 2 * PATTERNS + (i)) * sizeof(vec) + offset_of(program, g))
#define ONES(g) PLANE(g, 0)
#define TWOS(g) PLANE(g, 1)

ALWAYS_INLINE TARGET vec FN(load_plane)(const uint8_t *at) {
    vec plane = FN(load)(at);
    IN_REGISTER(plane);
    return plane;
}

/* Adds the distances of one word to the sums, whose planes weigh 1, 2, 4, 8, 16 and 32; returns the carry, 64. */
ALWAYS_INLINE TARGET vec FN(add_word)(const uint8_t *planes, const uint8_t *program, vec sum[6]) {
    vec two[3], four[16], eight[8], sixteen[4], half[2], carry;
    /* Else the compiler takes the 43 addresses out of the loop over the queries, and has no registers for them. */
    __asm__("" : "+r"(planes));
    UNROLL for (size_t i = 0; i < 5; i++) {
        const size_t g = 4 * i;
        FULL_ADD(sum[0], two[0], sum[0], ONES(g), ONES(g + 1));
        FULL_ADD(sum[1], four[3 * i], sum[1], two[0], TWOS(g));
        two[2] = TWOS(g + 1);
        FULL_ADD(sum[0], two[1], sum[0], ONES(g + 2), ONES(g + 3));
        FULL_ADD(sum[1], four[3 * i + 1], sum[1], two[1], TWOS(g + 2));
        FULL_ADD(sum[1], four[3 * i + 2], sum[1], two[2], TWOS(g + 3));
        /* What can be added is added at once, so that several chains of adders are under way together. */
        UNROLL for (size_t j = 3 * i / 2; j < 3 * (i + 1) / 2; j++)
            FULL_ADD(sum[2], eight[j], sum[2], four[2 * j], four[2 * j + 1]);
        UNROLL for (size_t j = 3 * i / 2 / 2; j < 3 * (i + 1) / 2 / 2; j++)
            FULL_ADD(sum[3], sixteen[j], sum[3], eight[2 * j], eight[2 * j + 1]);
    }
    FULL_ADD(sum[0], two[0], sum[0], ONES(20), ONES(21));
    FULL_ADD(sum[1], four[15], sum[1], two[0], TWOS(20));
    FULL_ADD(sum[4], half[0], sum[4], sixteen[0], sixteen[1]);
    FULL_ADD(sum[2], eight[7], sum[2], four[14], four[15]);
    FULL_ADD(sum[3], sixteen[3], sum[3], eight[6], eight[7]);
    FULL_ADD(sum[4], half[1], sum[4], sixteen[2], sixteen[3]);
    FULL_ADD(sum[5], carry, sum[5], half[0], half[1]);
    return carry;
}

/* Plane of the rows that are not nearer than the query's limit. The sums start at its bias = 2^m - limit, m being the
 * number of their planes, so that what the last of them carries is the answer. */
ALWAYS_INLINE TARGET vec FN(beyond)(const uint8_t *planes, const uint8_t *probe, const size_t n_words) {
    const uint8_t *const program = probe + MAX_BIAS * sizeof(uint32_t);
    vec sum[6], carry[MAX_SLICE_WORDS + 1];
    UNROLL for (size_t i = 0; i < 6; i++) sum[i] = FN(fill)(bias_bits(probe, i));
    for (size_t w = 0; w < n_words; w++)
        carry[w] = FN(add_word)(planes + w * GROUPS * 2 * PATTERNS * sizeof(vec),
                                program + w * GROUPS * sizeof(uint16_t), sum);
    for (size_t n = n_words, left = n_words, i = 6; left; left /= 2, i++) {
        vec high = FN(fill)(bias_bits(probe, i));
        if (n % 2) carry[n] = (vec){0};
        n = (n + 1) / 2;
        for (size_t j = 0; j < n; j++) FULL_ADD(high, carry[j], high, carry[2 * j], carry[2 * j + 1]);
    }
    return carry[0];
}

/* Writes which queries have rows nearer than their limit, and the planes of the others of their rows. */
ALWAYS_INLINE TARGET size_t FN(sieve)(const vec *planes, const uint8_t *probes, size_t n, uint32_t *found, vec *beyond,
                                      const size_t n_words) {
    size_t n_found = 0;
    for (size_t i = 0; i < n; i++) {
        const vec plane = FN(beyond)((const uint8_t *)planes, probes + i * probe_bytes(n_words), n_words);
        beyond[n_found] = plane;
        found[n_found] = (uint32_t)i;
        n_found += !ALL_ONES(plane); /* no branch: it could not be foretold */
    }
    return n_found;
}

static TARGET void FN(slice)(const block *b, size_t r, query *queries, size_t n, size_t n_words, void *scratch) {
    const bool rows = n_words > 1 && b->word_step == 8;
    const uint8_t *const probes = queries->probe;
    vec *const planes = scratch, *const beyond = planes + n_words * GROUPS * 2 * PATTERNS;
    uint32_t found[MAX_BATCH];
    size_t n_found;
    if (n_words == 1) {
        FN(make_planes)(b, r, 1, false, planes);
        n_found = FN(sieve)(planes, probes, n, found, beyond, 1);
    } else if (n_words == 2 && rows) {
        FN(make_planes)(b, r, 2, true, planes);
        n_found = FN(sieve)(planes, probes, n, found, beyond, 2);
    } else if (n_words == 4 && rows) {
        FN(make_planes)(b, r, 4, true, planes);
        n_found = FN(sieve)(planes, probes, n, found, beyond, 4);
    } else {
        FN(make_planes)(b, r, n_words, false, planes);
        n_found = FN(sieve)(planes, probes, n, found, beyond, n_words);
    }
    for (size_t f = 0; f < n_found; f++) {
        query *const q = queries + found[f];
        uint64_t lanes[LANES], any = 0;
        memcpy(lanes, beyond + f, sizeof lanes);
        for (size_t l = 0; l < LANES; l++) any |= ~lanes[l];
        for (; any; any &= any - 1) { /* bit i of lane l is row i * LANES + l */
            const unsigned i = (unsigned)__builtin_ctzll(any);
            for (size_t l = 0; l < LANES; l++)
                if (!(lanes[l] >> i & 1)) {
                    const size_t row = r + i * LANES + l;
                    offer(q, b, row, FN(distance)(b, row, q->code, n_words));
                }
        }
        set_bias(q, n_words);
    }
}

#undef JOIN_
#undef JOIN
#undef FN
#undef vec
#undef PLANE
#undef ONES
#undef TWOS
#undef LEVEL
#undef TARGET
#undef LANES
#undef FULL_ADD
#undef COUNT
#undef FOLD
#undef LESSER
#undef NEARER
#undef ALL_ONES
#undef EVEN_LANES
#undef ODD_LANES
#undef EVEN_WORDS
#undef ODD_WORDS
#undef FIRST_WORD
#undef SECOND_WORD
