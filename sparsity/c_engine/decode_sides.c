/* The distance of a side from the cell's centre, in strides: of BINS > 1, the mean of a distribution. */
static float side_of(const struct view *v, int side, int cell)
{
    float logits[BINS], highest = -INFINITY, total = 0, sum = 0;
    for (int bin = 0; bin < BINS; bin++) {
        logits[bin] = number_at(v, side * BINS + bin, cell);
        highest = fmaxf(highest, logits[bin]);
    }
    if (BINS == 1)
        return highest;
    for (int bin = 0; bin < BINS; bin++) {
        const float power = expf(logits[bin] - highest);
        total += power;
        sum += power * (float)bin;
    }
    return sum / total;
}

/* A cell: BINS numbers for each side (left, top, right, bottom), then the classes. */
static int decode_map(const struct raw_map *m, const struct view *v, float conf, struct NAME_box *boxes, int room, int found)
{
    const int cells = m->height * m->width;
    const float least_logit = logit_below(conf);
    for (int label = 0; label < NAME_CLASSES; label++) {
        for (int cell = 0; cell < cells; cell++) {
            const float logit = number_at(v, 4 * BINS + label, cell);
            const float score = logit < least_logit ? 0.0f : sigmoid(logit);
            if (!(score > conf))
                continue;
            const float x = (float)(cell % m->width) + 0.5f, y = (float)(cell / m->width) + 0.5f;
            float sides[4];
            for (int side = 0; side < 4; side++)
                sides[side] = side_of(v, side, cell);
            const float stride = (float)m->stride;
            const float corners[4] = {(x - sides[0]) * stride, (y - sides[1]) * stride, (x + sides[2]) * stride,
                                      (y + sides[3]) * stride};
            found = add_box(boxes, room, found, corners, score, label);
        }
    }
    return found;
}
