"""Keras' batch norm, with TensorFlow's fused kernel in training."""

from __future__ import annotations

from typing import Any

from resnet_backbones.keras_compat import KERAS_FUSES_BATCH_NORM, ON_TENSORFLOW, keras, serializable


def normalize_with_moving_statistics(layer: Any, inputs: Any) -> Any:
    """What a batch norm computes in inference, in one kernel: for training that goes on with statistics frozen.

    Keras 3 writes it in separate operations, which with their gradients take more of a step on a CPU than the fused
    kernel of training does; this one takes less.

    Args:
        layer: a built ``BatchNormalization``, Keras' or ours.
        inputs: (batch, height, width, channels), or what else the layer takes.

    Returns:
        The normalised inputs; ``None`` where the kernel has no place and Keras' own code must run.
    """
    if KERAS_FUSES_BATCH_NORM or not _has_kernel(layer, inputs):
        return None
    import tensorflow as tf  # here: other backends do without it

    channels = layer.moving_mean.shape
    outputs, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=keras.ops.cast(layer.gamma, "float32") if layer.scale else tf.ones(channels),
        offset=keras.ops.cast(layer.beta, "float32") if layer.center else tf.zeros(channels),
        mean=keras.ops.cast(layer.moving_mean, "float32"),
        variance=keras.ops.cast(layer.moving_variance, "float32"),
        epsilon=layer.epsilon,
        is_training=False,
    )
    return tf.cast(outputs, layer.compute_dtype)


def _has_kernel(layer: Any, inputs: Any) -> bool:
    """Whether TensorFlow's fused kernel takes such inputs, normalised over such an axis."""
    return (
        ON_TENSORFLOW
        and not getattr(layer, "renorm", False)  # older Kerases have none
        and len(inputs.shape) == 4
        and layer.axis in (-1, 3)
        and keras.backend.standardize_dtype(inputs.dtype) in ("float32", "float16", "bfloat16")
    )


if KERAS_FUSES_BATCH_NORM:
    BatchNormalization = keras.layers.BatchNormalization
else:

    @serializable("BatchNormalization")
    class BatchNormalization(keras.layers.BatchNormalization):  # type: ignore[no-redef]
        """Keras' ``BatchNormalization``, whose training step on TensorFlow is one fused kernel.

        Keras 3 computes a batch's moments and the normalisation of every pixel in separate operations, which costs
        a third of a convolutional network's training step on a CPU. This class computes the same numbers in
        TensorFlow's ``FusedBatchNormV3``. Arguments, weights, configuration, saved weights and meaning are Keras':

        - the moving variance follows the batch's own (biased) variance, not the kernel's corrected one;
        - ``trainable = False`` stops the statistics and normalises with them;
        - statistics are float32 under mixed precision.

        Keras' own code runs wherever the kernel has no place: inference and frozen layers, masks,
        ``synchronized=True``, ``renorm=True``, inputs that are not (batch, height, width, channels) normalised over
        channels, float64, and backends other than TensorFlow. Under tf_keras, which is fused already, the name is
        tf_keras' own class.

        Args: those of ``keras.layers.BatchNormalization``.

        Call arguments:
            inputs: (batch, height, width, channels), or what else Keras' takes.
            training: whether to normalise with the batch's statistics, and move the moving ones.
            mask: as Keras' layer takes it.

        Returns:
            The shape of ``inputs``, in the layer's compute dtype.

        Source: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167.

        Example:
            >>> BatchNormalization(momentum=0.9, epsilon=1e-5)(images, training=True).shape  # images: (8, 32, 32, 3)
            TensorShape([8, 32, 32, 3])
        """

        def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
            """The normalised inputs, see the class."""
            if not self._fuses(inputs, training, mask):
                return super().call(inputs, training=training, mask=mask)
            import tensorflow as tf  # here: other backends do without it

            # Keras computes in float32 whatever comes in. The kernel does so too, and saves the copy.
            x = inputs if inputs.dtype == self.compute_dtype else tf.cast(inputs, "float32")
            channels = self.moving_mean.shape
            # The raw operation: tf.compat.v1.nn.fused_batch_norm raises an epsilon of 1e-5 to 1.001e-5.
            outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=x,
                scale=_float32(self.gamma) if self.scale else tf.ones(channels),
                offset=_float32(self.beta) if self.center else tf.zeros(channels),
                mean=tf.zeros([0]),  # as the kernel asks for in training
                variance=tf.zeros([0]),
                epsilon=self.epsilon,
                is_training=True,
            )
            self._move(self.moving_mean, mean)
            self._move(self.moving_variance, _biased(variance, x))
            return tf.cast(outputs, self.compute_dtype)

        def _fuses(self, inputs: Any, training: Any, mask: Any) -> bool:
            """Whether this call is one for the fused kernel."""
            return (
                isinstance(training, bool | int)  # a symbolic one is Keras' to decide
                and bool(training)
                and self.trainable
                and mask is None
                and not self.synchronized
                and _has_kernel(self, inputs)
            )

        def _move(self, moving: Any, batch: Any) -> None:
            moving.assign(_float32(moving) * self.momentum + batch * (1.0 - self.momentum))

    def _float32(variable: Any) -> Any:
        return keras.ops.cast(variable, "float32")

    def _biased(variance: Any, x: Any) -> Any:
        """The variance over all n pixels of ``x``, from one the kernel corrected by n / (n - 1) (Bessel)."""
        import tensorflow as tf

        pixels = tf.cast(tf.reduce_prod(tf.shape(x)[:3]), "float32")
        # Of one pixel the variance is 0; what the kernel makes of 0 / 0 is not said anywhere.
        return tf.where(tf.equal(pixels, 1.0), tf.zeros_like(variance), variance * ((pixels - 1.0) / pixels))
