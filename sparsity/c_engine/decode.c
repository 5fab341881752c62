/* ---- Boxes ---- */

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

/* A logit whose sigmoid is below a confidence, and close to it: it saves the exponentials of most cells. */
static float logit_below(float conf)
{
    return conf > 0 && conf < 1 ? logf(conf / (1 - conf)) - 0.01f : -INFINITY;
}

/* The numbers of a raw map. apart: from channel to channel. places: of the cells; NULL where they are in order. */
struct view {
    const float *at;
    ptrdiff_t apart;
    const int32_t *places;
};

static inline float number_at(const struct view *v, int channel, int cell)
{
    return v->at[channel * v->apart + (v->places ? v->places[cell] : cell)];
}

/* Adds a box if there is room. Returns the number of boxes that were found so far. */
static int add_box(struct NAME_box *boxes, int room, int found, const float corners[4], float score, int label)
{
    if (found < room)
        boxes[found] = (struct NAME_box){corners[0], corners[1], corners[2], corners[3], score, label};
    return found + 1;
}

