/* Which rows of a gallery's columns file lie in a bounding box and a span of time. GALLERY.md specifies the file.
 *
 * Thread-safe; allocates nothing, and takes 5 kB of stack. For machines with little-endian integers, as the file has
 * them. */
#ifndef DUCH_REGION_H
#define DUCH_REGION_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define REGION_GROUP_ROWS 4096

/* 4,096 rows of a columns file, as they lie in it. */
struct region_group {
    int64_t seq[REGION_GROUP_ROWS];
    double west[REGION_GROUP_ROWS];
    double south[REGION_GROUP_ROWS];
    double east[REGION_GROUP_ROWS];
    double north[REGION_GROUP_ROWS];
    int64_t time_us[REGION_GROUP_ROWS];
    uint8_t modality[REGION_GROUP_ROWS];
};

/* A bounding box, in degrees, and a span of time, in microseconds since 1970 UTC. */
struct region_bounds {
    double west, south, east, north; /* closed; west > east crosses the antimeridian */
    int64_t first_us, last_us;       /* closed; INT64_MIN < first_us */
    int32_t has_bbox;                /* 0: any place, also none */
    int32_t has_time;                /* 0: any time, also none */
};

/* mask[i] = 1 where row i is in the region, else 0, for i < n_rows.
 *
 * groups: the whole groups that hold n_rows rows, 8-byte aligned; what stands beyond row n_rows - 1 does not matter.
 * A row without a footprint (nan) is in no box, one without a time (INT64_MIN) in no span.
 * Returns 0, or -1 where a pointer is missing, groups is not aligned or first_us is INT64_MIN. */
int region_select(const struct region_group *groups, size_t n_rows, const struct region_bounds *bounds, uint8_t *mask);

#ifdef __cplusplus
}
#endif

#endif
