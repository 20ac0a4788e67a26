"""The networks of SRGAN (Ledig et al., arXiv 1609.04802, figure 4), in the form of the tutorial.

They use only `keras.layers` and `keras.ops`. Therefore saved models can be computed with any Keras backend.
"""

from collections.abc import Callable

import keras
from keras import layers

KerasTensor = keras.KerasTensor
LayerBuilder = Callable[..., layers.Layer]


def _conv(x: KerasTensor, filters: int, strides: int = 1) -> KerasTensor:
    return layers.Conv2D(filters, 3, strides=strides, padding="same")(x)


def _prelu(x: KerasTensor, slope: float) -> KerasTensor:
    return layers.PReLU(keras.initializers.Constant(slope), shared_axes=[1, 2])(x)


def _glorot(scale: float) -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(scale**2, "fan_avg", "uniform")


def _upsample(x: KerasTensor, filters: int, prelu_slope: float) -> KerasTensor:
    conv = layers.Conv2D(filters, 3, padding="same")
    x = keras.ops.depth_to_space(conv(x), 2)  # [B, 2H, 2W, filters / 4]
    # ICNR (Aitken et al., arXiv 1707.02937): the four pixels of a cell are equal at first, so there is no grid.
    conv.kernel.assign(keras.ops.tile(conv.kernel[..., : filters // 4], (1, 1, 1, 4)))
    return _prelu(x, prelu_slope)


def _interpolate(lr: KerasTensor, scaling_factor: int) -> KerasTensor:
    """Enlarge each pixel, then smooth: nearly bilinear interpolation, of operations that every runtime has."""
    x = layers.Concatenate(dtype="float32")([lr] * scaling_factor**2)
    x = keras.ops.depth_to_space(x, scaling_factor)  # [B, S*H, S*W, 3]
    return layers.AveragePooling2D(scaling_factor + 1, strides=1, padding="same", dtype="float32")(x)


def _output(x: KerasTensor, lr: KerasTensor | None, scaling_factor: int, last_conv: LayerBuilder) -> KerasTensor:
    """Return sr [B, S*H, S*W, 3] for features [B, S*H, S*W, F], which are added to the interpolated `lr` if given."""
    initializer = _glorot(0.1 if lr is not None else 1.0)
    x = last_conv(3, 9, padding="same", kernel_initializer=initializer, dtype="float32")(x)
    if lr is None:
        x = layers.Activation("tanh", dtype="float32")(x)
        return layers.Rescaling(127.5, offset=127.5, dtype="float32")(x)
    x = layers.Rescaling(127.5, dtype="float32")(x)
    return layers.Add(dtype="float32")([x, _interpolate(lr, scaling_factor)])


def _first_conv(size: int | None, conv: layers.Layer) -> tuple[KerasTensor, KerasTensor]:
    """Return the first features of a discriminator and its input, in float32: 16 bits would round images."""
    image = keras.Input((size, size, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1, dtype="float32")(image)
    return conv(x), image


class SRGAN:
    """The builders of the generator and the discriminator."""

    @staticmethod
    def generator(
        scaling_factor: int,
        feature_maps: int,
        residual_blocks: int,
        batch_norm: bool = True,
        upsampling_maps: int | None = None,
        prelu_slope: float = 0.0,
        residual_scale: float = 1.0,
        global_skip: bool = False,
        norm: LayerBuilder = layers.BatchNormalization,
        last_conv: LayerBuilder = layers.Conv2D,
    ) -> keras.Model:
        """Build the generator, SRResNet.

        Args:
            scaling_factor: the upscaling factor S, a power of two. There is one upsampling stage for each factor of 2.
            feature_maps: filters of the residual trunk.
            residual_blocks: number of residual blocks in the trunk.
            batch_norm: whether convolutions of the trunk are followed by batch normalization.
            upsampling_maps: filters of each upsampling stage, 256 in the paper. By default, each stage has twice the
                filters of the previous one, as in the tutorial.
            prelu_slope: the initial slope of each PReLU for negative inputs: 0 in Keras and the tutorial, 0.25 in
                He et al., arXiv 1502.01852.
            residual_scale: the initial scale of the last kernel of each residual branch, relative to Glorot's.
            global_skip: whether the output is added to the interpolated input, without tanh. The last kernel
                then begins at a tenth of Glorot's scale. By default, as in the tutorial, the output is a tanh.
            norm: the class of the batch normalization; `layers.choose` has a faster one for training.
            last_conv: the class of the last convolution; see `layers.choose`.

        Returns:
            A model from RGB [B, H, W, 3] in 0..255 to float32 RGB [B, S*H, S*W, 3] in 0..255, for any H and W. With
            `global_skip`, results can be slightly outside of 0..255.

        Raises:
            ValueError: `scaling_factor` is not a power of two.
        """
        if scaling_factor < 2 or scaling_factor & (scaling_factor - 1):
            raise ValueError(f"scaling_factor must be 2, 4, 8 or a higher power of two, not {scaling_factor}")

        def conv_norm(x: KerasTensor, initial_scale: float = 1.0) -> KerasTensor:
            x = layers.Conv2D(feature_maps, 3, padding="same", kernel_initializer=_glorot(initial_scale))(x)
            return norm()(x) if batch_norm else x

        def residual_block(x: KerasTensor) -> KerasTensor:
            skip = x
            x = _prelu(conv_norm(x), prelu_slope)
            return layers.Add()([conv_norm(x, residual_scale), skip])

        # The first and last layers are float32 at any policy: 16 bits would change colours by one or two levels.
        lr = keras.Input((None, None, 3), name="lr")
        x = layers.Rescaling(1 / 255, dtype="float32")(lr)
        x = layers.Conv2D(feature_maps, 9, padding="same", dtype="float32")(x)
        x = skip = _prelu(x, prelu_slope)  # [B, H, W, F]
        for _ in range(residual_blocks):
            x = residual_block(x)
        x = layers.Add()([conv_norm(x), skip])
        for stage in range(1, scaling_factor.bit_length()):
            x = _upsample(x, upsampling_maps or feature_maps * 2**stage, prelu_slope)
        sr = _output(x, lr if global_skip else None, scaling_factor, last_conv)
        return keras.Model(lr, sr, name="generator")

    @staticmethod
    def discriminator(
        feature_maps: int,
        leaky_alpha: float,
        disc_blocks: int,
        dense_units: int | None = None,
        hr_size: int = 96,
        norm: LayerBuilder = layers.BatchNormalization,
    ) -> keras.Model:
        """Build the discriminator: the tutorial's, or with `dense_units` the paper's.

        Args:
            feature_maps: filters of the first block; each further block has twice as many.
            leaky_alpha: the slope of LeakyReLU for negative inputs.
            disc_blocks: number of blocks, each of two convolutions. Height and width are halved by the first
                convolution of each block except the first one in the tutorial, and by the second convolution of every
                block in the paper.
            dense_units: units of a dense layer over all positions, 1024 in the paper. By default the features are
                averaged over positions instead.
            hr_size: the side of the images in pixels, for the dense layer.
            norm: the class of the batch normalization.

        Returns:
            A model from RGB [B, H, W, 3] in 0..255 to float32 logits [B, 1]. A logit above 0 means "real photograph".
            H and W are arbitrary, or `hr_size` with a dense layer.
        """

        def conv_block(x: KerasTensor, filters: int, strides: int) -> KerasTensor:
            return layers.LeakyReLU(leaky_alpha)(norm()(_conv(x, filters, strides=strides)))

        size = hr_size if dense_units else None
        x, image = _first_conv(size, layers.Conv2D(feature_maps, 3, padding="same", dtype="float32"))
        x = layers.LeakyReLU(leaky_alpha)(x)
        x = conv_block(x, feature_maps, strides=2 if dense_units else 1)
        for block in range(1, disc_blocks):
            first, second = (1, 2) if dense_units else (2, 1)
            x = conv_block(x, feature_maps * 2**block, first)
            x = conv_block(x, feature_maps * 2**block, second)
        if dense_units:
            x = layers.Dense(dense_units)(layers.Flatten()(x))  # [B, dense_units]
        else:
            x = layers.GlobalAveragePooling2D()(x)  # [B, F * 2^(disc_blocks - 1)]
        x = layers.LeakyReLU(leaky_alpha)(x)
        logits = layers.Dense(1, dtype="float32")(x)
        return keras.Model(image, logits, name="discriminator")

    @staticmethod
    def patch_discriminator(
        feature_maps: int, leaky_alpha: float, disc_blocks: int, spectral_norm: bool = False
    ) -> keras.Model:
        """Build a patch discriminator, after pix2pix (Isola et al., arXiv 1611.07004).

        It has no batch normalization. Convolutions with stride 2 have kernels of 4x4, so that all pixels have the same
        weight.

        Args:
            feature_maps: filters of the first block; each further block has twice as many.
            leaky_alpha: the slope of LeakyReLU for negative inputs.
            disc_blocks: number of blocks, each of two convolutions. The first one halves height and width.
            spectral_norm: whether to keep the spectral norm of each kernel at 1 (Miyato et al., arXiv 1802.05957).

        Returns:
            A model from RGB [B, H, W, 3] in 0..255, with arbitrary H and W, to float32 logits [B, h, w, 1], one for
            each patch. A logit above 0 means "part of a real photograph". Each block halves height and width, rounded
            up.
        """

        def conv(filters: int, kernel_size: int, strides: int = 1, **options: str) -> layers.Layer:
            layer = layers.Conv2D(filters, kernel_size, strides, padding="same", **options)
            return layers.SpectralNormalization(layer, dtype=layer.dtype_policy) if spectral_norm else layer

        x, image = _first_conv(None, conv(feature_maps, 4, 2, dtype="float32"))
        x = layers.LeakyReLU(leaky_alpha)(x)
        for block in range(disc_blocks):
            filters = feature_maps * 2**block
            if block:
                x = layers.LeakyReLU(leaky_alpha)(conv(filters, 4, 2)(x))
            x = layers.LeakyReLU(leaky_alpha)(conv(filters, 3)(x))
        logits = conv(1, 3, dtype="float32")(x)  # [B, H / 2^N, W / 2^N, 1]
        return keras.Model(image, logits, name="discriminator")
