/* ---- Vectors ---- */

#ifndef NAME_LANES
#if defined(__AVX512F__)
#define NAME_LANES 16
#elif defined(__AVX__)
#define NAME_LANES 8
#else
#define NAME_LANES 4
#endif
#endif
#define LANES NAME_LANES

#ifdef _OPENMP
#include <omp.h>
#ifndef NAME_THREADS
#define NAME_THREADS 16
#endif
#else
#undef NAME_THREADS
#define NAME_THREADS 1
#endif

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi" /* vectors are passed between functions of this file only */
#endif

typedef float vec __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), may_alias));
typedef float number __attribute__((may_alias)); /* the tables hold the bits of numbers */

#define UNUSED __attribute__((unused))
#define LOAD(from) (*(const vec *)(from))
#define STORE(to, vector) (*(vec *)(to) = (vector))

/* Lane i of the result is lane number i of the list, of a and then of b. */
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif

/* Copies vectors with their lanes shifted. A case: the rows and columns of blocks to the source, in a grid. */
enum { REACH = 3 };
#define SHIFT_CASE(grid, down, right) (((grid) * 7 + (down) + REACH) * 7 + (right) + REACH)
#define SHIFT(...)                                 \
    for (int x = 0; x < count * LANES; x += LANES) \
        STORE(to + x, SHUFFLE(LOAD(from + x), fill, __VA_ARGS__));

struct unaligned {
    vec numbers;
} __attribute__((packed, aligned(4), may_alias));

static inline vec splat(float x)
{
    return x - (vec){0};
}

static inline vec choose(ivec mask, vec a, vec b)
{
    return (vec)(((ivec)a & mask) | ((ivec)b & ~mask));
}

static inline vec larger(vec a, vec b)
{
    return choose((ivec)((a > b) | (a != a)), a, b);
}

/* 2^(x factor). x is limited to +-87, where exp leaves the normal numbers; nan counts as -87. */
static inline vec power_of_two(vec x, float factor)
{
    const vec rounding = splat(12582912.0f); /* 1.5 x 2^23: the sum's lowest bits are a whole number */
    vec near = choose((ivec)(x > splat(-87.0f)), x, splat(-87.0f));
    near = choose((ivec)(near < splat(87.0f)), near, splat(87.0f));
    const vec rounded = near * factor + rounding;
    const vec rest = near * factor - (rounded - rounding);
    vec power = splat(1.3390323e-3f);
    power = power * rest + 9.6184373e-3f;
    power = power * rest + 5.5503324e-2f;
    power = power * rest + 2.4022648e-1f;
    power = power * rest + 6.9314718e-1f;
    power = power * rest + 1.0f;
    return (vec)((ivec)power + ((ivec)rounded << 23));
}

static inline vec silu(vec x)
{
    return x / (power_of_two(x, -1.442695041f) + 1.0f);
}

static inline vec hardswish(vec x)
{
    const vec zero = splat(0.0f), six = splat(6.0f);
    vec gate = x + 3.0f;
    gate = choose((ivec)(gate > zero), gate, zero);
    gate = choose((ivec)(gate < six), gate, six);
    return x * gate * (1.0f / 6.0f);
}

static inline int least(int a, int b)
{
    return a < b ? a : b;
}

static inline int most(int a, int b)
{
    return a > b ? a : b;
}

/* ---- Layers: what does not depend on the width of vectors ---- */

enum { NONE, SILU, RELU, LEAKY_RELU, HARDSWISH };

/* values: the weights that are not zero, by block of input channels, then by output. Of a layer whose outputs are
   computed `group` together, all weights, by block, group, tap and output. taps: the input channel and the place in
   the kernel of each value. starts: where the values of each block and output begin. offsets: in find_offsets. */
struct layer {
    int outputs, per_group, groups, kernel, dilation, padding, activation, group, block, blocks;
    float slope;
    const uint32_t *bias, *values, *starts;
    const uint16_t *taps;
    int32_t *offsets;
};

/* ---- Convolution of a tile ---- */

struct tile {
    const float *source;
    ptrdiff_t pitch;
    const number *bias, *values;
    const int32_t *offsets;
    const uint32_t *starts;
    int taps, outputs, first, last, activation;
    float slope;
    float *sums, *result;
    ptrdiff_t result_pitch, result_plane;
    const float *residual;
    ptrdiff_t residual_pitch, residual_plane;
};

static void prefetch(const struct tile *t, int output, int rows, int columns)
{
    const float *row = t->result + output * t->result_plane;
    for (int y = 0; y < rows; y++, row += t->result_pitch)
        for (int x = 0; x < columns * LANES; x += 16)
            __builtin_prefetch(row + x, 1, 3);
}

#define FINISH(ACTIVATED)                                                                        \
    for (int y = 0; y < rows; y++, to += t->result_pitch, added += t->residual_pitch)            \
        for (int x = 0; x < columns * LANES; x += LANES, sums += LANES) {                        \
            const vec s = LOAD(sums);                                                            \
            vec found = (ACTIVATED);                                                             \
            if (t->residual)                                                                     \
                found = found + LOAD(added + x);                                                 \
            STORE(to + x, found);                                                                \
        }

/* Turns the sums of one output into results: the activation, then the addition of the residual. */
static __attribute__((noinline)) void finish(const struct tile *t, int output, const float *sums, int rows, int columns)
{
    float *to = t->result + output * t->result_plane;
    const float *added = t->residual ? t->residual + output * t->residual_plane : to;
    const vec zero = splat(0.0f);
    switch (t->activation) {
    case SILU:
        FINISH(silu(s))
        break;
    case RELU:
        FINISH(choose((ivec)(s > zero), s, zero))
        break;
    case LEAKY_RELU:
        FINISH(choose((ivec)(s < zero), s * t->slope, s))
        break;
    case HARDSWISH:
        FINISH(hardswish(s))
        break;
    default:
        FINISH(s)
    }
}

/* ---- Steps: what depends on the width of vectors ---- */

enum kind { INPUT, CONVOLVE, MOVE, POOL, HALO, ATTEND, OUTPUT };

/* Where a map lies in the arena: its first cell, and the distances from row to row and from channel to channel.
   A map is cut into a grid of blocks. Lane l of a vector holds a cell of block l, so that a step to the next cell is a
   step to the next vector, in all blocks at once. */
struct place {
    ptrdiff_t at, pitch, plane;
};

/* height, width: of the result, in cells. rows, columns: of a block. across: blocks beside each other.
   step, shift, row, column: of MOVE. reach: of POOL and HALO, in cells. heads, keys, values, areas: of ATTEND.
   grid: the number of the grid. cells: of ATTEND and OUTPUT, the places of cells in a plane (see find_cells). map: of OUTPUT, where it begins. */
struct step {
    enum kind kind;
    int channels, height, width, rows, columns, across, grid;
    struct place source, result, residual;
    const struct layer *layer;
    void (*tile)(const struct tile *);
    int tile_rows, tile_columns, stride, adds;
    int step, shift, row, column, reach;
    int heads, keys, values, areas;
    const uint32_t *scales;
    int32_t *cells;
    ptrdiff_t map;
};
