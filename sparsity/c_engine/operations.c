/* ---- Operations ---- */

enum { PIECES = 4, VECTORS = 2, BLOCK = VECTORS * LANES, ROWS = 4 };

static _Alignas(64) float arena[ARENA];
static _Alignas(64) float scratches[NAME_THREADS][SCRATCH];

static void find_offsets(const struct step *s)
{
    const struct layer *l = s->layer;
    const int area = l->kernel * l->kernel, all = l->blocks * l->outputs;
    const int count = l->taps ? (int)l->starts[all] : l->per_group * area;
    const int share = l->outputs / l->groups;
    int index = 0;
    for (int i = 0; i < count; i++) {
        while (l->taps && i >= (int)l->starts[index + 1])
            index++;
        const int tap = l->taps ? l->taps[i] : i, inside = tap % area;
        const int group = l->taps ? index % l->outputs / share : 0;
        const ptrdiff_t channel = tap / area + (ptrdiff_t)group * l->per_group;
        const int y = inside / l->kernel * l->dilation - l->padding, x = inside % l->kernel * l->dilation - l->padding;
        l->offsets[i] = (int32_t)(channel * s->source.plane + y * s->source.pitch + x * LANES);
    }
}

/* The place of each cell in a plane, row by row. */
static void find_cells(const struct step *s, ptrdiff_t pitch, int32_t *to)
{
    for (int y = 0; y < s->height; y++)
        for (int x = 0; x < s->width; x++) {
            const int lane = y / s->rows * s->across + x / s->columns;
            *to++ = (int32_t)(y % s->rows * pitch + x % s->columns * LANES + lane);
        }
}

static int count_tiles(const struct step *s)
{
    const int down = (s->rows + s->tile_rows - 1) / s->tile_rows;
    return down * ((s->columns + s->tile_columns - 1) / s->tile_columns);
}

/* The number of parts that the outputs of a convolution are divided into, to give work to all threads. */
static int count_spans(const struct step *s, int threads)
{
    const int tiles = count_tiles(s);
    const int wanted = (6 * threads + tiles - 1) / tiles;
    return threads == 1 ? 1 : most(1, least(wanted, s->layer->outputs / 8));
}

static int count_cells(const struct step *s)
{
    return s->height * s->width / s->areas;
}

static int count_runs(const struct step *s, int threads)
{
    const int apart = s->heads * s->areas, blocks = (count_cells(s) + BLOCK - 1) / BLOCK;
    return threads == 1 ? 1 : least(blocks, (PIECES * threads + apart - 1) / apart);
}

static int count_items(const struct step *s, int threads)
{
    if (s->kind == CONVOLVE)
        return count_tiles(s) * count_spans(s, threads);
    if (s->kind == ATTEND)
        return s->heads * s->areas * count_runs(s, threads);
    return threads == 1 ? 1 : least(s->channels, PIECES * threads);
}

static void convolve(const struct step *s, int item, int threads, float *sums)
{
    const struct layer *l = s->layer;
    const int spans = count_spans(s, threads), tile = item / spans, span = item % spans;
    const int across = (s->columns + s->tile_columns - 1) / s->tile_columns;
    /* A tile that would reach over the edge begins earlier, and computes some cells again. */
    const int row = least(tile / across * s->tile_rows, s->rows - s->tile_rows);
    const int column = least(tile % across * s->tile_columns, s->columns - s->tile_columns);
    const int groups = l->outputs / l->group, area = l->kernel * l->kernel;
    const int first = (int)((int64_t)groups * span / spans), last = (int)((int64_t)groups * (span + 1) / spans);
    const int output = first * l->group;
    struct tile t = {
        .source = arena + s->source.at + row * s->stride * s->source.pitch + column * s->stride * LANES,
        .pitch = s->source.pitch,
        .bias = (const number *)l->bias + output,
        .offsets = l->offsets,
        .values = (const number *)l->values,
        .outputs = last * l->group - output,
        .activation = l->activation,
        .slope = l->slope,
        .sums = sums,
        .result = arena + s->result.at + row * s->result.pitch + column * LANES + output * s->result.plane,
        .result_pitch = s->result.pitch,
        .result_plane = s->result.plane,
        .residual_pitch = s->residual.pitch,
        .residual_plane = s->residual.plane,
    };
    if (s->adds)
        t.residual = arena + s->residual.at + row * s->residual.pitch + column * LANES + output * s->residual.plane;
    for (int block = 0; block < l->blocks; block++) {
        const int channel = block * l->block;
        t.first = block == 0;
        t.last = block == l->blocks - 1;
        if (l->taps) {
            t.starts = l->starts + block * l->outputs + output;
        } else {
            t.taps = least(l->block, l->per_group - channel) * area;
            t.offsets = l->offsets + channel * area;
            t.values = (const number *)l->values + (ptrdiff_t)channel * area * l->outputs + (ptrdiff_t)output * t.taps;
        }
        s->tile(&t);
    }
}

static void clear_beyond(const struct step *s, float *plane, ptrdiff_t pitch, float low)
{
    if (s->rows * (LANES / s->across) == s->height && s->columns * s->across == s->width)
        return;
    for (int lane = 0; lane < LANES; lane++) {
        const int down = most(0, least(s->height - lane / s->across * s->rows, s->rows));
        const int right = most(0, least(s->width - lane % s->across * s->columns, s->columns));
        for (int y = 0; y < s->rows; y++)
            for (int x = y < down ? right : 0; x < s->columns; x++)
                plane[y * pitch + x * LANES + lane] = low;
    }
}

/* Fills the cells around each block with those of the neighbouring blocks; beyond the map's edge they are low. */
static void fill_halo(const struct step *s, float *plane, ptrdiff_t pitch, float low)
{
    const int reach = s->reach, rows = s->rows, columns = s->columns;
    clear_beyond(s, plane, pitch, low);
    for (int down = -REACH; down <= REACH; down++)
        for (int right = -REACH; right <= REACH; right++) {
            const int top = most(-reach, down * rows), bottom = least(rows + reach, (down + 1) * rows);
            const int left = most(-reach, right * columns), end = least(columns + reach, (right + 1) * columns);
            if ((!down && !right) || left >= end)
                continue;
            for (int y = top; y < bottom; y++) {
                float *to = plane + y * pitch + left * LANES;
                const float *from = plane + (y - down * rows) * pitch + (left - right * columns) * LANES;
                shift(SHIFT_CASE(s->grid, down, right), to, from, end - left, splat(low));
            }
        }
}

static UNUSED void move(const struct step *s, int channel)
{
    const float *source = arena + s->source.at + channel * s->source.plane;
    float *result = arena + s->result.at + channel * s->result.plane;
    for (int y = 0; y < s->rows; y++) {
        const float *from = source + ((y * s->step >> s->shift) + s->row) * s->source.pitch;
        for (int x = 0; x < s->columns; x++)
            STORE(result + y * s->result.pitch + x * LANES, LOAD(from + ((x * s->step >> s->shift) + s->column) * LANES));
    }
}

/* Max pooling over the cells up to `reach` away: along rows, then along columns. */
static UNUSED void pool(const struct step *s, int channel, float *scratch)
{
    const int rows = s->rows, columns = s->columns, reach = s->reach;
    const ptrdiff_t pitch = (columns + 2 * reach) * LANES;
    float *inner = scratch + reach * (pitch + LANES), *maxima = scratch + (rows + 2 * reach) * pitch;
    const float *source = arena + s->source.at + channel * s->source.plane;
    float *result = arena + s->result.at + channel * s->result.plane;
    for (int y = 0; y < rows; y++)
        for (int x = 0; x < columns * LANES; x += LANES)
            STORE(inner + y * pitch + x, LOAD(source + y * s->source.pitch + x));
    fill_halo(s, inner, pitch, -INFINITY);
    for (int y = 0; y < rows + 2 * reach; y++)
        for (int x = 0; x < columns * LANES; x += LANES) {
            const float *from = scratch + y * pitch + x;
            vec found = LOAD(from);
            for (int step = 1; step <= 2 * reach; step++)
                found = larger(found, LOAD(from + step * LANES));
            STORE(maxima + y * pitch + x, found);
        }
    for (int y = 0; y < rows; y++)
        for (int x = 0; x < columns * LANES; x += LANES) {
            const float *from = maxima + y * pitch + x;
            vec found = LOAD(from);
            for (int step = 1; step <= 2 * reach; step++)
                found = larger(found, LOAD(from + step * pitch));
            STORE(result + y * s->result.pitch + x, found);
        }
}

/* Copies a channel between rows of cells and vectors that hold one cell of each block. */
static void transfer(const struct step *s, float *plane, ptrdiff_t pitch, float *cells, int reads)
{
    const int rows = s->rows, columns = s->columns;
    const int whole = rows * (LANES / s->across) == s->height && columns * s->across == s->width;
    for (int y = 0; y < rows; y++) {
        if (whole && columns >= LANES) {
            for (int x = 0; x < columns; x += LANES) {
                const int first = least(x, columns - LANES);
                float *vectors = plane + y * pitch + first * LANES, *row = cells + y * s->width + first;
                vec r[LANES];
                for (int i = 0; i < LANES; i++) {
                    float *block = row + i / s->across * rows * s->width + i % s->across * columns;
                    r[i] = reads ? ((const struct unaligned *)block)->numbers : LOAD(vectors + i * LANES);
                }
                transpose(r);
                for (int i = 0; i < LANES; i++) {
                    float *block = row + i / s->across * rows * s->width + i % s->across * columns;
                    if (reads)
                        STORE(vectors + i * LANES, r[i]);
                    else
                        ((struct unaligned *)block)->numbers = r[i];
                }
            }
            continue;
        }
        for (int lane = 0; lane < LANES; lane++) {
            const int row = lane / s->across * rows + y, left = lane % s->across * columns;
            const int inside = row < s->height ? most(0, least(s->width - left, columns)) : 0;
            float *lanes = plane + y * pitch + lane, *cell = cells + (ptrdiff_t)row * s->width + left;
            for (int x = 0; x < inside; x++) {
                if (reads)
                    lanes[x * LANES] = cell[x];
                else
                    cell[x] = lanes[x * LANES];
            }
            for (int x = inside; reads && x < columns; x++)
                lanes[x * LANES] = 0.0f;
        }
    }
}

/* Row i of the result, BLOCK floats, is the sum over n < depth of factors[i down + n along] times the BLOCK floats
   vectors[n BLOCK]. rows: a multiple of ROWS. */
static UNUSED void multiply(float *to, const float *factors, int down, int along, const float *vectors, int rows, int depth)
{
    for (int row = 0; row < rows; row += ROWS) {
        vec s[ROWS][VECTORS] = {{{0}}};
        const float *numbers = factors + (ptrdiff_t)row * down;
        for (int n = 0; n < depth; n++)
            for (int i = 0; i < ROWS; i++)
                for (int j = 0; j < VECTORS; j++)
                    s[i][j] += numbers[(ptrdiff_t)i * down + (ptrdiff_t)n * along] * LOAD(vectors + n * BLOCK + j * LANES);
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < VECTORS; j++)
                STORE(to + (row + i) * BLOCK + j * LANES, s[i][j]);
    }
}

/* Scores [count][BLOCK] -> their exponentials over the largest of each column; sums: 1 / the sum of each column. */
static UNUSED void exponentiate(float *scores, int count, float *sums)
{
    for (int j = 0; j < BLOCK; j += LANES) {
        vec highest = splat(-INFINITY), total = splat(0.0f);
        for (int n = 0; n < count; n++) {
            const vec score = LOAD(scores + n * BLOCK + j);
            highest = choose((ivec)(score > highest), score, highest);
        }
        for (int n = 0; n < count; n++) {
            const vec below = LOAD(scores + n * BLOCK + j) - highest;
            const vec power = choose((ivec)(below != below), below, power_of_two(below, 1.442695041f));
            total += power;
            STORE(scores + n * BLOCK + j, power);
        }
        STORE(sums + j, 1.0f / total);
    }
}

static UNUSED void gather(float *to, int pitch, const float *plane, ptrdiff_t apart, int channels, const int32_t *cells, int count)
{
    for (int channel = 0; channel < channels; channel++, to += pitch, plane += apart)
        for (int i = 0; i < count; i++)
            to[i] = plane[cells[i]];
}

/* Self-attention: a run of queries of one head in one area. */
static UNUSED void attend(const struct step *s, int item, int threads, float *scratch)
{
    const int spans = count_runs(s, threads), span = item % spans, count = count_cells(s);
    const int area = item / spans % s->areas, head = item / spans / s->areas;
    const int blocks = (count + BLOCK - 1) / BLOCK, rows = (s->values + ROWS - 1) / ROWS * ROWS, pitch = blocks * BLOCK;
    float *of_keys = scratch, *of_values = of_keys + s->keys * pitch, *queries = of_values + rows * pitch;
    float *scores = queries + s->keys * BLOCK, *sums = scores + pitch * BLOCK, *total = sums + rows * BLOCK;
    const float *source = arena + s->source.at;
    const ptrdiff_t apart = s->source.plane;
    const int32_t *here = s->cells + area * count, *there = s->cells + s->height * s->width + area * count;
    const number *scale = (const number *)s->scales + head * s->keys;
    const number *value_scale = (const number *)s->scales + s->heads * s->keys + head * s->values;
    const int first_value = 2 * s->heads * s->keys + head * s->values;
    gather(of_keys, pitch, source + (s->heads + head) * s->keys * apart, apart, s->keys, here, count);
    gather(of_values, pitch, source + first_value * apart, apart, s->values, here, count);
    for (int block = blocks * span / spans; block < blocks * (span + 1) / spans; block++) {
        const int first = block * BLOCK, size = least(BLOCK, count - first);
        gather(queries, BLOCK, source + head * s->keys * apart, apart, s->keys, here + first, size);
        for (int channel = 0; channel < s->keys; channel++)
            for (int i = 0; i < BLOCK; i++)
                queries[channel * BLOCK + i] = i < size ? queries[channel * BLOCK + i] * scale[channel] : 0.0f;
        multiply(scores, of_keys, 1, pitch, queries, pitch, s->keys);
        exponentiate(scores, count, total);
        multiply(sums, of_values, pitch, 1, scores, rows, count);
        for (int channel = 0; channel < s->values; channel++) {
            float *to = arena + s->result.at + (head * s->values + channel) * s->result.plane;
            for (int i = 0; i < size; i++)
                to[there[first + i]] = sums[channel * BLOCK + i] * (value_scale[channel] * total[i]);
        }
    }
}

static void run_item(const struct step *s, int item, int threads, int thread, const float *rgb, float *maps)
{
    float *scratch = scratches[thread];
    if (s->kind == CONVOLVE) {
        convolve(s, item, threads, scratch);
        return;
    }
    if (s->kind == ATTEND) {
        attend(s, item, threads, scratch);
        return;
    }
    const int items = count_items(s, threads), end = (int)((int64_t)s->channels * (item + 1) / items);
    const ptrdiff_t cells = (ptrdiff_t)s->height * s->width;
    for (int channel = (int)((int64_t)s->channels * item / items); channel < end; channel++) {
        float *result = arena + s->result.at + channel * s->result.plane;
        switch (s->kind) {
        case INPUT:
            transfer(s, result, s->result.pitch, (float *)(uintptr_t)(rgb + channel * cells), 1);
            break;
        case OUTPUT:
            transfer(s, result, s->result.pitch, maps + s->map + channel * cells, 0);
            break;
        case HALO:
            fill_halo(s, result, s->result.pitch, 0.0f);
            break;
        case POOL:
            pool(s, channel, scratch);
            break;
        default:
            move(s, channel);
        }
    }
}

/* maps: NULL to leave the raw maps in the arena. */
static void run_image(const float *rgb, float *maps)
{
#ifdef _OPENMP
#pragma omp parallel num_threads(least(omp_get_max_threads(), NAME_THREADS))
#endif
    {
        int threads = 1, thread = 0;
#ifdef _OPENMP
        threads = omp_get_num_threads();
        thread = omp_get_thread_num();
#endif
        for (int i = 0; i < (int)(sizeof steps / sizeof *steps); i++) {
            if (steps[i].kind == OUTPUT && !maps)
                continue;
            const int items = count_items(steps + i, threads);
#ifdef _OPENMP
#pragma omp for schedule(dynamic, 1)
#endif
            for (int item = 0; item < items; item++)
                run_item(steps + i, item, threads, thread, rgb, maps);
        }
    }
}

static void prepare(void)
{
    static int prepared;
    for (int i = 0; !prepared && i < (int)(sizeof steps / sizeof *steps); i++) {
        const struct step *s = steps + i;
        if (s->kind == CONVOLVE)
            find_offsets(s);
        if (s->kind == ATTEND) {
            find_cells(s, s->source.pitch, s->cells);
            find_cells(s, s->result.pitch, s->cells + s->height * s->width);
        }
        if (s->kind == OUTPUT)
            find_cells(s, s->result.pitch, s->cells);
    }
    prepared = 1;
}

int NAME_run(const float *rgb, int n, float *maps)
{
    if (!rgb || !maps || n < 1)
        return -1;
    prepare();
    for (int image = 0; image < n; image++)
        run_image(rgb + (ptrdiff_t)image * 3 * NAME_HEIGHT * NAME_WIDTH, maps + (ptrdiff_t)image * NAME_MAPS);
    return 0;
}
