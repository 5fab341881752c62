/* ---- Suppression ---- */

/* Best first. The order of boxes of equal score does not depend on the C library. */
static int compare_boxes(const void *one, const void *other)
{
    const struct NAME_box *a = one, *b = other;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    if (a->label != b->label)
        return a->label < b->label ? -1 : 1;
    if (a->y1 != b->y1)
        return a->y1 < b->y1 ? -1 : 1;
    return a->x1 < b->x1 ? -1 : a->x1 > b->x1;
}

static float overlap(const struct NAME_box *a, const struct NAME_box *b)
{
    const float width = fminf(a->x2, b->x2) - fmaxf(a->x1, b->x1);
    const float height = fminf(a->y2, b->y2) - fmaxf(a->y1, b->y1);
    const float shared = fmaxf(width, 0.0f) * fmaxf(height, 0.0f);
    const float areas = (a->x2 - a->x1) * (a->y2 - a->y1) + (b->x2 - b->x1) * (b->y2 - b->y1);
    return shared / fmaxf(areas - shared, 1.17549435e-38f);
}

int NAME_nms(struct NAME_box *boxes, int count, float iou, int agnostic, int max_det)
{
    int kept = 0;
    qsort(boxes, (size_t)most(count, 0), sizeof *boxes, compare_boxes);
    for (int i = 0; i < count && kept < max_det; i++) {
        int j = 0;
        while (j < kept && ((!agnostic && boxes[j].label != boxes[i].label) || overlap(boxes + j, boxes + i) <= iou))
            j++;
        if (j == kept)
            boxes[kept++] = boxes[i];
    }
    return kept;
}

int NAME_decode(const float *maps, float conf, struct NAME_box *boxes, int room)
{
    int found = 0;
    for (int i = 0; i < (int)(sizeof raw_maps / sizeof *raw_maps); i++) {
        const ptrdiff_t cells = (ptrdiff_t)raw_maps[i].height * raw_maps[i].width;
        const struct view view = {maps, cells, NULL};
        found = decode_map(raw_maps + i, &view, conf, boxes, room, found);
        maps += raw_maps[i].channels * cells;
    }
    return found;
}

/* As NAME_decode, from the raw maps where they were computed. */
static int decode_arena(float conf, struct NAME_box *boxes, int room)
{
    int found = 0, index = 0;
    for (int i = 0; i < (int)(sizeof steps / sizeof *steps); i++)
        if (steps[i].kind == OUTPUT) {
            const struct view view = {arena + steps[i].result.at, steps[i].result.plane, steps[i].cells};
            found = decode_map(raw_maps + index++, &view, conf, boxes, room, found);
        }
    return found;
}

int NAME_detect(const float *rgb, float conf, float iou, struct NAME_box *boxes, int room)
{
    static struct NAME_box candidates[NAME_CANDIDATES];
    if (!rgb || !boxes || room < 0)
        return -1;
    prepare();
    run_image(rgb, NULL);
    int count = least(decode_arena(conf, candidates, NAME_CANDIDATES), NAME_CANDIDATES);
#if NAME_NMS
    count = NAME_nms(candidates, count, iou, 0, room);
#else
    (void)iou;
    qsort(candidates, (size_t)count, sizeof *candidates, compare_boxes);
    count = least(count, least(room, 300));
#endif
    memcpy(boxes, candidates, (size_t)count * sizeof *boxes);
    return count;
}

/* ---- Pictures ---- */

struct NAME_fit NAME_letterbox(const unsigned char *picture, int width, int height, float *rgb)
{
    struct NAME_fit fit = {width, height, 0, 0, 0};
    fit.gain = fminf((float)NAME_WIDTH / (float)width, (float)NAME_HEIGHT / (float)height);
    const int across = most(1, (int)roundf((float)width * fit.gain));
    const int down = most(1, (int)roundf((float)height * fit.gain));
    fit.left = (NAME_WIDTH - across) / 2;
    fit.top = (NAME_HEIGHT - down) / 2;
    for (int y = 0; y < NAME_HEIGHT; y++) {
        const float v = fmaxf(((float)(y - fit.top) + 0.5f) * (float)height / (float)down - 0.5f, 0.0f);
        const int above = least((int)v, height - 1), below = least(above + 1, height - 1);
        const float low = v - (float)above;
        for (int x = 0; x < NAME_WIDTH; x++) {
            const float u = fmaxf(((float)(x - fit.left) + 0.5f) * (float)width / (float)across - 0.5f, 0.0f);
            const int before = least((int)u, width - 1), after = least(before + 1, width - 1);
            const int inside = x >= fit.left && x < fit.left + across && y >= fit.top && y < fit.top + down;
            const float right = u - (float)before;
            for (int channel = 0; channel < 3; channel++) {
                const unsigned char *upper = picture + (ptrdiff_t)above * width * 3 + channel;
                const unsigned char *lower = picture + (ptrdiff_t)below * width * 3 + channel;
                const float one = (float)upper[before * 3] * (1 - right) + (float)upper[after * 3] * right;
                const float other = (float)lower[before * 3] * (1 - right) + (float)lower[after * 3] * right;
                rgb[((ptrdiff_t)channel * NAME_HEIGHT + y) * NAME_WIDTH + x] =
                    (inside ? one * (1 - low) + other * low : 114.0f) / 255.0f;
            }
        }
    }
    return fit;
}

void NAME_to_picture(const struct NAME_fit *fit, struct NAME_box *boxes, int count)
{
    for (int i = 0; i < count; i++) {
        boxes[i].x1 = fminf(fmaxf((boxes[i].x1 - (float)fit->left) / fit->gain, 0), (float)fit->width);
        boxes[i].x2 = fminf(fmaxf((boxes[i].x2 - (float)fit->left) / fit->gain, 0), (float)fit->width);
        boxes[i].y1 = fminf(fmaxf((boxes[i].y1 - (float)fit->top) / fit->gain, 0), (float)fit->height);
        boxes[i].y2 = fminf(fmaxf((boxes[i].y2 - (float)fit->top) / fit->gain, 0), (float)fit->height);
    }
}
