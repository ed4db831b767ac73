/* Searches the codes file of a gallery (GALLERY.md) without copying it, and prints the nearest rows.
 *
 *     cc -std=c11 -O3 -pthread example.c hamming.c -o example
 *     ./example gallery/codes-1.bin 0f1e2d3c4b5a6978 10
 *
 * prints "distance row" for each hit, nearest first. The query is a code in hexadecimal, as `duch encode --hex` prints
 * it. The catalog says how many rows are committed and which are deleted; this example searches all that the file has.
 */
#define _POSIX_C_SOURCE 200809L
#include "hamming.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER = 64 };

static int fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    return 1;
}

static uint32_t little_endian(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* The bytes of a code written in hexadecimal; -1 if it is no code of n_bytes. */
static int read_code(const char *hex, uint8_t *code, size_t n_bytes) {
    if (strlen(hex) != 2 * n_bytes || strspn(hex, "0123456789abcdefABCDEF") != 2 * n_bytes) return -1;
    for (size_t i = 0; i < n_bytes; i++) {
        const char two[3] = {hex[2 * i], hex[2 * i + 1], 0};
        code[i] = (uint8_t)strtoul(two, NULL, 16);
    }
    return 0;
}

static int search(const hamming_gallery *gallery, const char *hex, int64_t k) {
    uint8_t query[HAMMING_MAX_BYTES];
    if (read_code(hex, query, (size_t)gallery->n_bytes)) return fail(hex, "not a code of the file's width");
    if (k > gallery->n_rows) k = gallery->n_rows;
    if (k < 1) return fail("K", "wanted a whole number, at least 1, and a file that holds codes");
    int32_t *distances = malloc((size_t)k * sizeof *distances);
    int64_t *rows = malloc((size_t)k * sizeof *rows);
    int status = HAMMING_NO_MEMORY;
    if (distances && rows) status = hamming_top_k(gallery, query, 1, k, 1, distances, rows);
    for (int64_t i = 0; status == HAMMING_OK && i < k; i++) printf("%" PRId32 " %" PRId64 "\n", distances[i], rows[i]);
    free(distances);
    free(rows);
    return status == HAMMING_OK ? 0 : fail("search", "no memory");
}

int main(int argc, char **argv) {
    if (argc != 4) return fail("usage", "example CODES-FILE QUERY-IN-HEX K");
    const int file = open(argv[1], O_RDONLY);
    struct stat facts;
    if (file < 0 || fstat(file, &facts)) return fail(argv[1], "cannot be opened");
    if (facts.st_size < HEADER) return fail(argv[1], "too short for a codes file");
    const size_t size = (size_t)facts.st_size;
    const uint8_t *bytes = mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (bytes == MAP_FAILED) return fail(argv[1], "cannot be mapped");
    const uint32_t n_bits = little_endian(bytes + 12);
    if (memcmp(bytes, "DUCHCODE", 8) || n_bits < 8 || n_bits % 8 || n_bits / 8 > HAMMING_MAX_BYTES)
        return fail(argv[1], "not a codes file");
    const hamming_gallery gallery = {.codes = bytes + HEADER,
                                     .n_rows = (int64_t)((size - HEADER) / (n_bits / 8)),
                                     .n_bytes = n_bits / 8};
    return search(&gallery, argv[2], strtoll(argv[3], NULL, 10));
}
