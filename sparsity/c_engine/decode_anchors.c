/* A cell of each anchor: 4 numbers of the box, the objectness, the classes. */
static int decode_map(const struct raw_map *m, const float *map, float conf, struct NAME_box *boxes, int room, int found)
{
    const int cells = m->height * m->width;
    for (int anchor = 0; anchor < ANCHORS; anchor++)
        for (int cell = 0; cell < cells; cell++) {
            const float *p = map + (ptrdiff_t)anchor * (5 + NAME_CLASSES) * cells + cell;
            const float object = sigmoid(p[4 * cells]);
            if (!(object > conf))
                continue;
            const float x = (sigmoid(p[0]) * 2 - 0.5f + (float)(cell % m->width)) * (float)m->stride;
            const float y = (sigmoid(p[cells]) * 2 - 0.5f + (float)(cell / m->width)) * (float)m->stride;
            const float across = sigmoid(p[2 * cells]) * 2, down = sigmoid(p[3 * cells]) * 2;
            const float w = across * across * m->anchors[anchor][0] / 2, h = down * down * m->anchors[anchor][1] / 2;
            const float corners[4] = {x - w, y - h, x + w, y + h};
            for (int label = 0; label < NAME_CLASSES; label++) {
                const float score = object * sigmoid(p[(5 + label) * cells]);
                if (score > conf)
                    found = add_box(boxes, room, found, corners, score, label);
            }
        }
    return found;
}
