// What an IR sees in a picture: segment MODEL.xml PICTURE.ppm LABELS.pgm
//
// Needs OpenVINO alone. The picture is stretched to the model's size; the PGM's pixels are class numbers.
// It gives the label map of ../01-python/segment.py, to the pixel.

#include <exception>
#include <iostream>
#include <openvino/openvino.hpp>

#include "picture.hpp"
#include "resize.hpp"

// The options to compile with: f32 for an IR that `to-ir --winograd` made, which says so in its metadata.
ov::AnyMap options_of(const ov::Model& model) {
    const std::string option = ov::hint::inference_precision.name();
    if (!model.has_rt_info("runtime_options", option)) {
        return {};
    }
    return {{option, model.get_rt_info<std::string>("runtime_options", option)}};
}

// The IR takes blue, green, red, as 0..255: mean and scale are in it. All images of a batch are the one picture.
template <typename Number>
void fill(ov::Tensor& tensor, const Picture& rgb, bool is_nhwc) {
    const auto pixels = rgb.height * rgb.width;
    auto* values = tensor.data<Number>();
    for (std::size_t image = 0; image < tensor.get_shape()[0]; ++image, values += 3 * pixels) {
        for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
            for (std::size_t channel = 0; channel < 3; ++channel) {
                values[is_nhwc ? 3 * pixel + channel : channel * pixels + pixel] = rgb.values[3 * pixel + 2 - channel];
            }
        }
    }
}

void fill(ov::Tensor& tensor, const Picture& rgb, bool is_nhwc) {
    const auto type = tensor.get_element_type();
    if (type == ov::element::f32) {
        fill<float>(tensor, rgb, is_nhwc);
    } else if (type == ov::element::u8) {
        fill<std::uint8_t>(tensor, rgb, is_nhwc);
    } else if (type == ov::element::u16) {
        fill<std::uint16_t>(tensor, rgb, is_nhwc);
    } else {
        throw std::runtime_error("the model takes " + type.get_type_name());
    }
}

// The first label map of the tensor [N, 1, H, W]; class numbers are below 256.
template <typename Number>
Picture labels_of(const ov::Tensor& tensor) {
    Picture labels(tensor.get_shape()[2], tensor.get_shape()[3], 1);
    std::copy_n(tensor.data<const Number>(), labels.values.size(), labels.values.begin());
    return labels;
}

Picture labels_of(const ov::Tensor& tensor) {
    const auto type = tensor.get_element_type();
    if (type == ov::element::i64) {
        return labels_of<std::int64_t>(tensor);
    }
    if (type == ov::element::i32) {
        return labels_of<std::int32_t>(tensor);
    }
    return labels_of<std::uint8_t>(tensor);
}

// The output of whole numbers. An IR may also have logits and probabilities, which are floating-point.
ov::Output<const ov::Node> label_map_of(const ov::CompiledModel& compiled) {
    for (const auto& output : compiled.outputs()) {
        if (output.get_element_type().is_integral()) {
            return output;
        }
    }
    throw std::runtime_error("the model has no label map");
}

void segment(const std::string& xml, const std::string& ppm, const std::string& pgm) {
    ov::Core core;
    const auto model = core.read_model(xml);
    auto compiled = core.compile_model(model, "CPU", options_of(*model));
    const auto takes = compiled.input();
    auto shape = takes.get_partial_shape();  // Nx3xHxW or NxHxWx3
    if (shape[0].is_dynamic()) {
        shape[0] = 1;
    }
    ov::Tensor images(takes.get_element_type(), shape.to_shape());
    const bool is_nhwc = shape[3] == 3;
    const auto size = is_nhwc ? 1 : 2;
    fill(images, resized(read_ppm(ppm), images.get_shape()[size], images.get_shape()[size + 1]), is_nhwc);

    auto request = compiled.create_infer_request();
    request.set_input_tensor(images);
    request.infer();
    write_pgm(pgm, labels_of(request.get_tensor(label_map_of(compiled))));
}

int main(int count, char** arguments) {
    if (count != 4) {
        std::cerr << "usage: segment MODEL.xml PICTURE.ppm LABELS.pgm\n";
        return 2;
    }
    try {
        segment(arguments[1], arguments[2], arguments[3]);
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << "\n";
        return 1;
    }
    return 0;
}
