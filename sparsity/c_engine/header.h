#ifndef NAME_HEIGHT
/* Pixels of an image. */
#define NAME_HEIGHT HEIGHT_VALUE
#define NAME_WIDTH WIDTH_VALUE
#define NAME_CLASSES CLASSES_VALUE
/* Numbers in the raw maps of an image. */
#define NAME_MAPS MAPS_VALUE
/* Boxes that NAME_detect considers, and whether they need NMS. */
#define NAME_CANDIDATES CANDIDATES_VALUE
#define NAME_NMS NMS_VALUE

#ifdef __cplusplus
extern "C" {
#endif

/* A box: its corners in pixels, its score from 0 to 1, and the number of its class. */
struct NAME_box {
    float x1, y1, x2, y2, score;
    int label;
};

/* How a picture lies in an image: pixels of the image per pixel of the picture, and the padding. */
struct NAME_fit {
    int width, height;
    float gain;
    int left, top;
};

extern const char *const NAME_names[NAME_CLASSES];

/* Makes an image of a picture: resizes it and pads it with grey.
   picture: height x width x 3 bytes, red, green, blue. rgb: room for 3 x NAME_HEIGHT x NAME_WIDTH numbers. */
struct NAME_fit NAME_letterbox(const unsigned char *picture, int width, int height, float *rgb);

/* Runs the network on n images. rgb: n x 3 x NAME_HEIGHT x NAME_WIDTH numbers from 0 to 1: all red numbers of an image,
   then all green ones, then all blue ones. maps: room for n x NAME_MAPS numbers; of each image, its raw maps
   [channels][height][width] one after the other. Returns 0, or -1 for arguments that can't be used.
   One call at a time: the network's memory is static. */
int NAME_run(const float *rgb, int n, float *maps);

/* Finds the boxes in the raw maps of one image whose score is above conf, in pixels of the image. Writes at most
   `room` of them. Returns how many there are: if it is more than room, some are missing. */
int NAME_decode(const float *maps, float conf, struct NAME_box *boxes, int room);

/* Non-maximum suppression, in place: sorts the boxes by score and removes those that overlap a better one of their
   class (agnostic: of any class) by more than iou. Returns how many are left, at most max_det. */
int NAME_nms(struct NAME_box *boxes, int count, float iou, int agnostic, int max_det);

/* Runs the network on one image, decodes, and suppresses where NAME_NMS. Writes at most `room` boxes, best first, in
   pixels of the image. Returns how many, or -1 for arguments that can't be used. */
int NAME_detect(const float *rgb, float conf, float iou, struct NAME_box *boxes, int room);

/* Maps boxes from pixels of the image to pixels of the picture. */
void NAME_to_picture(const struct NAME_fit *fit, struct NAME_box *boxes, int count);

#ifdef __cplusplus
}
#endif
#endif
