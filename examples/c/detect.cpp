// Prints the boxes that a network finds in a picture: ./detect_cpp picture.ppm [confidence [IoU]]

#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "net.h"

struct Picture {
    int width = 0, height = 0;
    std::vector<unsigned char> pixels;
};

// Reads a binary PPM of 8 bits without comments. The picture is empty for another file.
static Picture read_ppm(const std::string &name)
{
    Picture picture;
    std::ifstream file(name, std::ios::binary);
    std::string kind;
    int most = 0;
    file >> kind >> picture.width >> picture.height >> most;
    if (!file || kind != "P6" || most != 255 || picture.width < 1 || picture.height < 1)
        return {};
    file.get();
    picture.pixels.resize(std::size_t(picture.width) * picture.height * 3);
    file.read(reinterpret_cast<char *>(picture.pixels.data()), std::streamsize(picture.pixels.size()));
    return file ? picture : Picture();
}

int main(int count, char **arguments)
{
    if (count < 2) {
        std::cerr << "usage: " << arguments[0] << " picture.ppm [confidence [IoU]]\n";
        return 2;
    }
    const float conf = count > 2 ? std::stof(arguments[2]) : 0.25f;
    const float iou = count > 3 ? std::stof(arguments[3]) : 0.45f;
    const Picture picture = read_ppm(arguments[1]);
    if (picture.pixels.empty()) {
        std::cerr << arguments[1] << ": a binary PPM of 8 bits is expected (P6)\n";
        return 1;
    }
    std::vector<float> image(3 * NET_HEIGHT * NET_WIDTH);
    std::vector<net_box> boxes(300);
    const net_fit fit = net_letterbox(picture.pixels.data(), picture.width, picture.height, image.data());
    boxes.resize(net_detect(image.data(), conf, iou, boxes.data(), int(boxes.size())));
    net_to_picture(&fit, boxes.data(), int(boxes.size()));
    for (const net_box &box : boxes)
        std::printf("%s %.3f %.1f %.1f %.1f %.1f\n", net_names[box.label], box.score, box.x1, box.y1, box.x2, box.y2);
    return 0;
}
