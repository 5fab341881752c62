/* A YOLO detector as C code, for images of SIZE pixels; ZEROS of its weights are zero and left out.
   Written by yolo-sparsity VERSION. FILE.h declares its functions; no other file is needed.

   Build it (GCC or Clang; no other library is needed):
       cc -O3 -march=native -c FILE.c
       cc -O3 -march=native -fopenmp -c FILE.c
   and link with -lm. The second one runs several threads: OMP_NUM_THREADS says how many. It is GNU C11: with -std=c11, add -ffp-contract=fast.
   The compiler's target chooses the width of vectors: 16 numbers with AVX-512, 8 with AVX, else 4.
   -D NAME_LANES=8 chooses another one. The results are those of one thread, whatever the number of threads.

   Call it:
       float *rgb = malloc(sizeof(float) * 3 * NAME_HEIGHT * NAME_WIDTH);
       struct NAME_box boxes[300];
       struct NAME_fit fit = NAME_letterbox(picture, width, height, rgb);
       int count = NAME_detect(rgb, 0.25f, 0.45f, boxes, 300);
       NAME_to_picture(&fit, boxes, count); */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
