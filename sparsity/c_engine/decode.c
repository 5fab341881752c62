/* ---- Boxes ---- */

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

/* Adds a box if there is room. Returns the number of boxes that were found so far. */
static int add_box(struct NAME_box *boxes, int room, int found, const float corners[4], float score, int label)
{
    if (found < room)
        boxes[found] = (struct NAME_box){corners[0], corners[1], corners[2], corners[3], score, label};
    return found + 1;
}

