/* Prints the boxes that a network finds in a picture: ./detect picture.ppm [confidence [IoU]] */

#include <stdio.h>
#include <stdlib.h>

#include "net.h"

#define MOST 300

/* Reads the next number of a PPM's header, past spaces and comments; -1 if there is none. */
static int read_number(FILE *file)
{
    int c = fgetc(file), number = -1;
    while (c == '#' || c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        while (c == '#' && (c = fgetc(file)) != '\n' && c != EOF)
            c = '#';
        c = fgetc(file);
    }
    for (; c >= '0' && c <= '9' && number < 100000; c = fgetc(file))
        number = (number < 0 ? 0 : 10 * number) + c - '0';
    return number;
}

/* Reads a binary PPM of 8 bits: rows of red, green, blue. Returns NULL for another file. */
static unsigned char *read_ppm(const char *name, int *width, int *height)
{
    unsigned char *picture = NULL;
    FILE *file = fopen(name, "rb");
    if (!file)
        return NULL;
    if (fgetc(file) == 'P' && fgetc(file) == '6') {
        *width = read_number(file);
        *height = read_number(file);
        const int most = read_number(file);
        const size_t bytes = *width > 0 && *height > 0 ? (size_t)*width * (size_t)*height * 3 : 0;
        if (bytes && most == 255 && (picture = malloc(bytes)) && fread(picture, 1, bytes, file) != bytes) {
            free(picture);
            picture = NULL;
        }
    }
    fclose(file);
    return picture;
}

int main(int count, char **arguments)
{
    static float image[3 * NET_HEIGHT * NET_WIDTH];
    struct net_box boxes[MOST];
    int width = 0, height = 0;
    if (count < 2) {
        fprintf(stderr, "usage: %s picture.ppm [confidence [IoU]]\n", arguments[0]);
        return 2;
    }
    const float conf = count > 2 ? strtof(arguments[2], NULL) : 0.25f;
    const float iou = count > 3 ? strtof(arguments[3], NULL) : 0.45f;
    unsigned char *picture = read_ppm(arguments[1], &width, &height);
    if (!picture) {
        fprintf(stderr, "%s: a binary PPM of 8 bits is expected (P6)\n", arguments[1]);
        return 1;
    }
    const struct net_fit fit = net_letterbox(picture, width, height, image);
    const int found = net_detect(image, conf, iou, boxes, MOST);
    net_to_picture(&fit, boxes, found);
    for (int i = 0; i < found; i++)
        printf("%s %.3f %.1f %.1f %.1f %.1f\n", net_names[boxes[i].label], boxes[i].score, boxes[i].x1, boxes[i].y1,
               boxes[i].x2, boxes[i].y2);
    free(picture);
    return 0;
}
