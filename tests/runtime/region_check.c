/* region.c against a plain loop over random rows, for the sanitizers: every buffer is exactly as large as it must be. */
#include "region.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define ROUNDS 200

/* Few values, so that edges touch. */
static const double longitudes[] = {-180, -179.5, -10, 0, 0.1, 10, 179.5, 180};
static const double latitudes[] = {-90, -45.5, 0, 0.1, 60, 90};
static const int64_t times[] = {INT64_MIN, INT64_MIN + 1, -1, 0, 1, 5, INT64_MAX};

#define PICK(values) ((values)[(size_t)rand() % (sizeof(values) / sizeof *(values))])

static int is_inside(const struct region_group *group, size_t i, const struct region_bounds *bounds)
{
    if (bounds->has_time && (group->time_us[i] < bounds->first_us || group->time_us[i] > bounds->last_us))
        return 0;
    if (!bounds->has_bbox)
        return 1;
    if (isnan(group->west[i]) || group->south[i] > bounds->north || group->north[i] < bounds->south)
        return 0;
    return (group->west[i] <= bounds->east) + (group->east[i] >= bounds->west) + (group->west[i] > group->east[i]) +
               (bounds->west > bounds->east) >= 2;
}

int main(void)
{
    for (int round = 0; round < ROUNDS; round++) {
        const size_t n = (size_t)rand() % (3 * REGION_GROUP_ROWS);
        const size_t n_groups = (n + REGION_GROUP_ROWS - 1) / REGION_GROUP_ROWS;
        struct region_group *groups = calloc(n_groups + !n_groups, sizeof *groups);
        uint8_t *mask = malloc(n + !n);
        struct region_bounds bounds = {PICK(longitudes), PICK(latitudes), PICK(longitudes), PICK(latitudes),
                                       INT64_MIN + 1 + rand() % 9, PICK(times), rand() % 2, rand() % 2};
        if (!groups || !mask)
            return 2;
        for (size_t i = 0; i < n_groups * REGION_GROUP_ROWS; i++) {
            struct region_group *group = groups + i / REGION_GROUP_ROWS;
            const size_t at = i % REGION_GROUP_ROWS;
            const int known = rand() % 8 != 0;
            group->west[at] = known ? PICK(longitudes) : NAN;
            group->east[at] = known ? PICK(longitudes) : NAN;
            group->south[at] = known ? PICK(latitudes) : NAN;
            group->north[at] = known ? PICK(latitudes) : NAN;
            group->time_us[at] = PICK(times);
        }
        if (region_select(groups, n, &bounds, mask) != 0)
            return 2;
        for (size_t i = 0; i < n; i++)
            if (mask[i] != is_inside(groups + i / REGION_GROUP_ROWS, i % REGION_GROUP_ROWS, &bounds)) {
                printf("round %d: row %zu of %zu differs\n", round, i, n);
                return 1;
            }
        free(groups);
        free(mask);
    }
    return 0;
}
