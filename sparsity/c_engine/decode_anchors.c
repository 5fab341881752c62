/* A cell of each anchor: 4 numbers of the box, the objectness, the classes. */
static int decode_map(const struct raw_map *m, const struct view *v, float conf, struct NAME_box *boxes, int room, int found)
{
    const int cells = m->height * m->width;
    const float least_logit = logit_below(conf);
    for (int anchor = 0; anchor < ANCHORS; anchor++)
        for (int cell = 0; cell < cells; cell++) {
            const int first = anchor * (5 + NAME_CLASSES);
            const float logit = number_at(v, first + 4, cell);
            const float object = logit < least_logit ? 0.0f : sigmoid(logit);
            if (!(object > conf))
                continue;
            float p[4];
            for (int i = 0; i < 4; i++)
                p[i] = sigmoid(number_at(v, first + i, cell)) * 2;
            const float x = (p[0] - 0.5f + (float)(cell % m->width)) * (float)m->stride;
            const float y = (p[1] - 0.5f + (float)(cell / m->width)) * (float)m->stride;
            const float across = p[2], down = p[3];
            const float w = across * across * m->anchors[anchor][0] / 2, h = down * down * m->anchors[anchor][1] / 2;
            const float corners[4] = {x - w, y - h, x + w, y + h};
            for (int label = 0; label < NAME_CLASSES; label++) {
                const float score = object * sigmoid(number_at(v, first + 5 + label, cell));
                if (score > conf)
                    found = add_box(boxes, room, found, corners, score, label);
            }
        }
    return found;
}
