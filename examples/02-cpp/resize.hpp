// Bilinear resize of a picture, first the width, then the height; equal to Pillow's to the bit, where that scales one
// side at a time as ../01-python/segment.py does. (In one step, releases of Pillow differ in which side comes first.)
//
// A pixel of the target is a weighted mean of the pixels below a triangle around its centre. Where the picture shrinks,
// the triangle is as many times wider. The weights are whole numbers of 2^-22, and each step rounds to bytes, as in
// Pillow's src/libImaging/Resample.c.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "picture.hpp"

constexpr int weight_bits = 22;

// Which source pixels make one pixel of the target: from `first` on, one weight each.
struct Window {
    std::size_t first;
    std::vector<std::int32_t> weights;
};

inline std::vector<Window> windows(std::size_t from, std::size_t to) {
    const double scale = static_cast<double>(from) / static_cast<double>(to), radius = std::max(scale, 1.0);
    std::vector<Window> all;
    for (std::size_t target = 0; target < to; ++target) {
        const double centre = (static_cast<double>(target) + 0.5) * scale;
        const auto first = static_cast<std::size_t>(std::max(centre - radius + 0.5, 0.0));
        const auto end = std::min(static_cast<std::size_t>(centre + radius + 0.5), from);
        std::vector<double> heights;
        double sum = 0;
        for (auto source = first; source < end; ++source) {
            const double distance = std::abs((static_cast<double>(source) - centre + 0.5) * (1.0 / radius));
            heights.push_back(std::max(1.0 - distance, 0.0));
            sum += heights.back();
        }
        Window window{first, {}};
        for (const double height : heights) {
            window.weights.push_back(static_cast<std::int32_t>(0.5 + height / sum * (1 << weight_bits)));
        }
        all.push_back(window);
    }
    return all;
}

inline Picture resized_columns(const Picture& from, std::size_t width) {
    Picture to(from.height, width, from.channels);
    const auto all = windows(from.width, width);
    for (std::size_t row = 0; row < to.height; ++row) {
        for (std::size_t column = 0; column < width; ++column) {
            for (std::size_t channel = 0; channel < to.channels; ++channel) {
                std::int32_t sum = 1 << (weight_bits - 1);
                for (std::size_t i = 0; i < all[column].weights.size(); ++i) {
                    const auto source = (row * from.width + all[column].first + i) * from.channels + channel;
                    sum += from.values[source] * all[column].weights[i];
                }
                to.values[(row * width + column) * to.channels + channel] =
                    static_cast<std::uint8_t>(std::clamp(sum >> weight_bits, 0, 255));
            }
        }
    }
    return to;
}

// Rows and columns exchanged.
inline Picture transposed(const Picture& from) {
    Picture to(from.width, from.height, from.channels);
    for (std::size_t row = 0; row < from.height; ++row) {
        for (std::size_t column = 0; column < from.width; ++column) {
            const auto pixel = from.values.begin() + static_cast<std::ptrdiff_t>((row * from.width + column) * from.channels);
            std::copy_n(pixel, from.channels,
                        to.values.begin() + static_cast<std::ptrdiff_t>((column * from.height + row) * from.channels));
        }
    }
    return to;
}

inline Picture resized(const Picture& from, std::size_t height, std::size_t width) {
    return transposed(resized_columns(transposed(resized_columns(from, width)), height));
}
