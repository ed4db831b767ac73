/* The scan for one kind of processor. hamming.c includes this once for each level, after it has defined
 *
 *     LEVEL     suffix of the names       TARGET   function attribute that allows its instructions
 *     LANES     64-bit words in a vector  FULL_ADD(sum, carry, a, b, c)   of three planes of bits
 *     COUNT(v)  something that can be added up over the words of a code, at most 4 of them ...
 *     FOLD(v)   ... and then becomes the number of ones in each lane
 *     LESSER(a, b)      the smaller of each lane, both below 2^32
 *     NEARER(a, b)      bit l is lane l of a < lane l of b, for lanes below 2^32
 *     ALL_ONES(v)       every bit of the vector is 1
 *
 * There are two ways through a block. `count_block` counts the ones of code ^ query word by word: the way for few
 * queries, where memory is the limit. `slice` is for batches: it turns LANES * 64 rows into planes, plane j holding bit
 * j of each of them, so that a few adders of bits compare all of them with a query; the planes are made once and serve
 * all queries. */

#define JOIN_(name, level) name##_##level
#define JOIN(name, level) JOIN_(name, level)
#define FN(name) JOIN(name, LEVEL)
#define vec FN(vector)

typedef uint64_t vec __attribute__((vector_size(8 * LANES)));

ALWAYS_INLINE TARGET vec FN(load)(const void *from) {
    vec v;
    memcpy(&v, from, sizeof v);
    return v;
}

ALWAYS_INLINE TARGET unsigned FN(distance)(const block *b, size_t r, const uint64_t *code, size_t n_words) {
    unsigned sum = 0;
    for (size_t w = 0; w < n_words; w++)
        sum += (unsigned)__builtin_popcountll(load_word(b->words + 8 * (w * b->pitch + r)) ^ code[w]);
    return sum;
}

/* Distances of the LANES rows from r. */
ALWAYS_INLINE TARGET vec FN(distances)(const block *b, size_t r, const uint64_t *code, size_t n_words) {
    const uint8_t *at = b->words + 8 * r;
    vec sum = {0};
    if (n_words <= 4) {
        for (size_t w = 0; w < n_words; w++) sum += COUNT(FN(load)(at + 8 * w * b->pitch) ^ code[w]);
        return FOLD(sum);
    }
    for (size_t w = 0; w < n_words; w++) sum += FOLD(COUNT(FN(load)(at + 8 * w * b->pitch) ^ code[w]));
    return sum;
}

/* Offers the near ones of the 64 rows from r. */
static TARGET __attribute__((noinline)) void FN(offer_near)(const block *b, size_t r, query *q, size_t n_words) {
    const vec limit = (vec){0} + q->limit;
    uint64_t near = 0;
    for (size_t i = 0; i < 64; i += LANES)
        near |= (uint64_t)NEARER(FN(distances)(b, r + i, q->code, n_words), limit) << i;
    for (; near; near &= near - 1) {
        const size_t row = r + (size_t)__builtin_ctzll(near);
        offer(q, b, row, FN(distance)(b, row, q->code, n_words));
    }
}

/* `shared` queries pass over the block side by side, so that they share every loaded vector. */
ALWAYS_INLINE TARGET void FN(count_shared)(const block *b, query *queries, const size_t shared, const size_t n_words) {
    size_t r = 0;
    for (; r + 64 <= b->n; r += 64) {
        vec least[4];
        unsigned near[4], any = 0;
        for (size_t s = 0; s < shared; s++) least[s] = (vec){0} + UINT32_MAX;
        for (size_t i = 0; i < 64; i += LANES)
            for (size_t s = 0; s < shared; s++)
                least[s] = LESSER(least[s], FN(distances)(b, r + i, queries[s].code, n_words));
        for (size_t s = 0; s < shared; s++) any |= near[s] = NEARER(least[s], (vec){0} + queries[s].limit);
        if (__builtin_expect(any != 0, 0))
            for (size_t s = 0; s < shared; s++)
                if (near[s]) FN(offer_near)(b, r, queries + s, n_words);
    }
    for (; r < b->n; r++)
        for (size_t s = 0; s < shared; s++)
            offer(queries + s, b, r, FN(distance)(b, r, queries[s].code, n_words));
}

ALWAYS_INLINE TARGET void FN(count_words)(const block *b, query *queries, size_t n, const size_t n_words) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4) FN(count_shared)(b, queries + i, 4, n_words);
    for (; i < n; i++) FN(count_shared)(b, queries + i, 1, n_words);
}

static TARGET void FN(count_block)(const block *b, query *queries, size_t n, size_t n_words) {
    switch (n_words) {
    case 1: FN(count_words)(b, queries, n, 1); break;
    case 2: FN(count_words)(b, queries, n, 2); break;
    case 4: FN(count_words)(b, queries, n, 4); break;
    default: FN(count_words)(b, queries, n, n_words);
    }
}

/* Bit i of lane l of x[j] becomes bit j of lane l of x[i]: 64 x 64 bits turned over in every lane, by swapping halves,
 * quarters and so on. Three steps at a time, so that their eight vectors stay in registers. */
ALWAYS_INLINE TARGET void FN(swap)(vec x[8], const unsigned distance[3], const uint64_t low[3]) {
    for (unsigned step = 0; step < 3; step++)
        for (unsigned i = 0; i < 8; i++) {
            const unsigned other = i | (4u >> step);
            if (other == i) continue;
            const vec moved = ((x[i] >> distance[step]) ^ x[other]) & low[step];
            x[other] ^= moved;
            x[i] ^= moved << distance[step];
        }
}

static TARGET void FN(transpose)(vec x[64]) {
    for (unsigned half = 0; half < 2; half++) {
        static const unsigned distance[2][3] = {{32, 16, 8}, {4, 2, 1}};
        static const uint64_t low[2][3] = {{0x00000000ffffffff, 0x0000ffff0000ffff, 0x00ff00ff00ff00ff},
                                           {0x0f0f0f0f0f0f0f0f, 0x3333333333333333, 0x5555555555555555}};
        const unsigned step = half ? 1 : 8, from = half ? 8 : 1;
        for (unsigned j = 0; j < 8; j++) {
            vec eight[8];
            for (unsigned i = 0; i < 8; i++) eight[i] = x[from * j + step * i];
            FN(swap)(eight, distance[half], low[half]);
            for (unsigned i = 0; i < 8; i++) x[from * j + step * i] = eight[i];
        }
    }
}

/* What three bits of a query can meet: for each of their 8 patterns the two planes of the distance 0..3 between the
 * pattern and those bits of the rows. 21 such groups and one of the last bit alone make a word. */
static TARGET void FN(make_planes)(const block *b, size_t r, size_t n_words, vec *planes) {
    vec x[64];
    for (size_t w = 0; w < n_words; w++) {
        for (size_t i = 0; i < 64; i++) x[i] = FN(load)(b->words + 8 * (w * b->pitch + r + i * LANES));
        FN(transpose)(x);
        for (size_t g = 0; g < GROUPS - 1; g++, planes += 2 * PATTERNS)
            for (size_t pattern = 0; pattern < PATTERNS; pattern++) {
                const vec p = x[3 * g] ^ -(uint64_t)(pattern & 1), q = x[3 * g + 1] ^ -(uint64_t)(pattern >> 1 & 1);
                FULL_ADD(planes[2 * pattern], planes[2 * pattern + 1], p, q, x[3 * g + 2] ^ -(uint64_t)(pattern >> 2));
            }
        planes[0] = x[63];
        planes[2] = ~x[63];
        planes += 2 * PATTERNS;
    }
}

#define ONES(g) FN(load)(planes + (g) * 2 * PATTERNS * sizeof(vec) + program[g])
#define TWOS(g) FN(load)(planes + (g) * 2 * PATTERNS * sizeof(vec) + program[g] + sizeof(vec))

/* Adds the distances of one word to the sums, whose planes weigh 1, 2, 4, 8, 16 and 32; returns the carry, 64. */
ALWAYS_INLINE TARGET vec FN(add_word)(const uint8_t *planes, const uint16_t *program, vec sum[6]) {
    vec two[32], four[16], eight[8], sixteen[4], half[2], carry;
    UNROLL for (size_t i = 0; i < 11; i++) FULL_ADD(sum[0], two[i], sum[0], ONES(2 * i), ONES(2 * i + 1));
    UNROLL for (size_t i = 0; i < 21; i++) two[11 + i] = TWOS(i);
    UNROLL for (size_t i = 0; i < 16; i++) FULL_ADD(sum[1], four[i], sum[1], two[2 * i], two[2 * i + 1]);
    UNROLL for (size_t i = 0; i < 8; i++) FULL_ADD(sum[2], eight[i], sum[2], four[2 * i], four[2 * i + 1]);
    UNROLL for (size_t i = 0; i < 4; i++) FULL_ADD(sum[3], sixteen[i], sum[3], eight[2 * i], eight[2 * i + 1]);
    UNROLL for (size_t i = 0; i < 2; i++) FULL_ADD(sum[4], half[i], sum[4], sixteen[2 * i], sixteen[2 * i + 1]);
    FULL_ADD(sum[5], carry, sum[5], half[0], half[1]);
    return carry;
}

/* Plane of the rows that are not nearer than the query's limit. The sums start at query->bias = 2^m - limit, m being
 * the number of their planes, so that what the last of them carries is the answer. */
ALWAYS_INLINE TARGET vec FN(far)(const uint8_t *planes, const query *q, const size_t n_words) {
    vec sum[6], carry[MAX_SLICE_WORDS + 1];
    UNROLL for (size_t i = 0; i < 6; i++) sum[i] = (vec){0} + q->bias[i];
    for (size_t w = 0; w < n_words; w++)
        carry[w] = FN(add_word)(planes + w * GROUPS * 2 * PATTERNS * sizeof(vec), q->program + w * GROUPS, sum);
    const uint64_t *bias = q->bias + 6;
    for (size_t n = n_words, left = n_words; left; left /= 2) {
        vec high = (vec){0} + *bias++;
        if (n % 2) carry[n] = (vec){0};
        n = (n + 1) / 2;
        for (size_t i = 0; i < n; i++) FULL_ADD(high, carry[i], high, carry[2 * i], carry[2 * i + 1]);
    }
    return carry[0];
}

/* Writes the queries that have rows nearer than their limit, and the planes of the others of their rows. */
ALWAYS_INLINE TARGET size_t FN(sieve)(const vec *planes, const query *queries, size_t n, uint32_t *found, vec *far,
                                      const size_t n_words) {
    size_t n_found = 0;
    for (size_t i = 0; i < n; i++) {
        const vec plane = FN(far)((const uint8_t *)planes, queries + i, n_words);
        far[n_found] = plane;
        found[n_found] = (uint32_t)i;
        n_found += !ALL_ONES(plane); /* no branch: it could not be foretold */
    }
    return n_found;
}

static TARGET void FN(slice)(const block *b, size_t r, query *queries, size_t n, size_t n_words, void *scratch) {
    vec *const planes = scratch, *const far = planes + n_words * GROUPS * 2 * PATTERNS;
    uint32_t found[MAX_BATCH];
    size_t n_found;
    FN(make_planes)(b, r, n_words, planes);
    switch (n_words) {
    case 1: n_found = FN(sieve)(planes, queries, n, found, far, 1); break;
    case 2: n_found = FN(sieve)(planes, queries, n, found, far, 2); break;
    case 4: n_found = FN(sieve)(planes, queries, n, found, far, 4); break;
    default: n_found = FN(sieve)(planes, queries, n, found, far, n_words);
    }
    for (size_t f = 0; f < n_found; f++) {
        query *const q = queries + found[f];
        uint64_t lanes[LANES], any = 0;
        memcpy(lanes, far + f, sizeof lanes);
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
