/* The distance of a side from the cell's centre, in strides: of BINS > 1, the mean of a distribution. */
static float side_of(const float *logits, int cells)
{
    float highest = logits[0], total = 0, sum = 0;
    for (int bin = 1; bin < BINS; bin++)
        highest = fmaxf(highest, logits[bin * cells]);
    if (BINS == 1)
        return highest;
    for (int bin = 0; bin < BINS; bin++) {
        const float power = expf(logits[bin * cells] - highest);
        total += power;
        sum += power * (float)bin;
    }
    return sum / total;
}

/* A cell: BINS numbers for each side (left, top, right, bottom), then the classes. */
static int decode_map(const struct raw_map *m, const float *map, float conf, struct NAME_box *boxes, int room, int found)
{
    const int cells = m->height * m->width;
    for (int label = 0; label < NAME_CLASSES; label++) {
        const float *logits = map + (ptrdiff_t)(4 * BINS + label) * cells;
        for (int cell = 0; cell < cells; cell++) {
            const float score = sigmoid(logits[cell]);
            if (!(score > conf))
                continue;
            const float x = (float)(cell % m->width) + 0.5f, y = (float)(cell / m->width) + 0.5f;
            float sides[4];
            for (int side = 0; side < 4; side++)
                sides[side] = side_of(map + (ptrdiff_t)side * BINS * cells + cell, cells);
            const float stride = (float)m->stride;
            const float corners[4] = {(x - sides[0]) * stride, (y - sides[1]) * stride, (x + sides[2]) * stride,
                                      (y + sides[3]) * stride};
            found = add_box(boxes, room, found, corners, score, label);
        }
    }
    return found;
}
