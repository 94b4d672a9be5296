// Pictures in memory, and their files: binary PPM (P6, colours) in, binary PGM (P5, grey) out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

// Bytes in rows from the top; a pixel of a colour picture is red, green, blue.
struct Picture {
    std::size_t height, width, channels;
    std::vector<std::uint8_t> values;

    Picture(std::size_t height, std::size_t width, std::size_t channels)
        : height(height), width(width), channels(channels), values(height * width * channels) {}
};

// The next number of a PPM header; a comment goes from # to the end of its line.
inline std::size_t header_number(std::istream& file) {
    while ((file >> std::ws).peek() == '#') {
        file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    }
    std::size_t number = 0;
    file >> number;
    return file ? number : 0;
}

// Throws std::runtime_error for a file that is no PPM of 8 bits, or ends early.
inline Picture read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string kind(2, ' ');
    file.read(kind.data(), 2);
    const auto width = header_number(file), height = header_number(file), largest = header_number(file);
    const std::size_t limit = 1 << 16;  // of a side
    if (!file || kind != "P6" || width == 0 || height == 0 || width > limit || height > limit || largest != 255) {
        throw std::runtime_error(path + ": is not a binary PPM (P6) with 8 bits a channel");
    }
    file.get();  // the one blank after the header
    Picture picture(height, width, 3);
    file.read(reinterpret_cast<char*>(picture.values.data()), static_cast<std::streamsize>(picture.values.size()));
    if (!file) {
        throw std::runtime_error(path + ": ends before its last pixel");
    }
    return picture;
}

inline void write_pgm(const std::string& path, const Picture& picture) {
    std::ofstream file(path, std::ios::binary);
    file << "P5\n" << picture.width << " " << picture.height << "\n255\n";
    file.write(reinterpret_cast<const char*>(picture.values.data()), static_cast<std::streamsize>(picture.values.size()));
    if (!file.flush()) {
        throw std::runtime_error(path + ": cannot be written");
    }
}
