"""Training that may be killed at any moment, and goes on exactly where its last backup was made."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from resnet_backbones.keras_compat import keras
from resnet_backbones.keras_compat.fit import begin_fit_at, steps_per_execution, unrepeatable_layers
from resnet_backbones.quantization.backup import files
from resnet_backbones.quantization.backup import state as contents
from resnet_backbones.quantization.schedule_state import schedule_states_of, set_skipping


class ResumePoint(NamedTuple):
    """Where training goes on: the epoch (from 0), and how many of its steps are done already."""

    epoch: int
    step: int


class TrainingBackup(keras.callbacks.Callback):
    """Backs training up while it runs; the same ``fit``, started again after a crash, goes on from there.

    It takes the place of Keras' ``BackupAndRestore`` for any compiled model, float or quantized, in both Kerases. A
    backup holds the model's variables (weights, batch norm statistics, ranges, switches and counts of the quantization
    schedule), the optimizer's (iterations, learning rate, slots), the epoch *and the step*, and random numbers' state
    (Keras' layers, ``random``, ``numpy.random``). It is one folder, written under another name and renamed: a process
    killed at any moment, also while it saves, leaves the old backup or the new one, whole. Nothing in it is a pickle.

    The script that goes on is the one that began: it builds, quantizes and compiles the model and calls ``fit`` with
    the same arguments, and ``fit`` starts in the epoch of the backup. Of that epoch's batches, those trained on
    already are read and passed over, so batches keep their numbers; their logs are empty, and the epoch's logs are of
    the batches that were left.

    **To end with the very same weights** as if never interrupted, an epoch must bring its batches in the same order
    again. Data that is not shuffled does. For shuffled data write a function of the epoch and give :meth:`data` to
    ``fit``; what ``fit`` or ``Dataset.shuffle`` shuffle by themselves differs after resuming. Use
    ``tf.config.experimental.enable_op_determinism()``, and random augmentation with the epoch in its seed
    (``tf.image.stateless_*``). Under tf_keras call ``keras.backend.experimental.enable_tf_random_generator()`` before
    building a model with dropout; its default random numbers cannot be saved (a warning names the layers). Other
    callbacks keep what they count for themselves, such as ``EarlyStopping``'s patience, in no backup.

    Args:
        directory: for this training alone; made if there is none.
        save_freq: ``"epoch"``, or a number of steps: then a backup is also made so many steps after the last one.
        delete_checkpoint: remove the backups when ``fit`` ends, as Keras does. With ``False`` a finished training,
            started again, ends at once with the weights of its end.

    List it last among the callbacks, so that a backup holds what the others did.

    Attributes:
        resume_point: epoch and step of the newest backup in the directory, (0, 0) without one.

    Raises:
        ValueError: ``save_freq`` is neither; at ``fit``: the model is not built or compiled, ``QuantizationSchedule``
            is listed later, the data has fewer batches than were trained on, or the backup is damaged or of another
            model, scheme, optimizer or Keras. Model and backup are then left as they were.
        OSError: the directory cannot be written to.

    Example:
        >>> backup = TrainingBackup("runs/digits/backup", save_freq=500)
        >>> detector.fit(train, epochs=20, callbacks=[QuantizationSchedule(), backup])

    Source: Keras' callback of this kind, https://keras.io/api/callbacks/backup_and_restore/
    """

    def __init__(
        self, directory: str | os.PathLike[str], save_freq: int | str = "epoch", *, delete_checkpoint: bool = True
    ) -> None:
        super().__init__()
        whole = isinstance(save_freq, int) and not isinstance(save_freq, bool) and save_freq > 0
        if not whole and save_freq != "epoch":
            raise ValueError(f"save_freq is 'epoch' or a positive number of steps; got {save_freq!r}.")
        if not os.fspath(directory):
            raise ValueError("directory is empty: name a directory for this training's backups.")
        self.directory = Path(directory)
        self.save_freq, self.delete_checkpoint = save_freq, delete_checkpoint
        self._epoch_now: tf.Variable | None = None
        self._train_function: Any = None

    @property
    def resume_point(self) -> ResumePoint:
        """Epoch and step of the newest backup, (0, 0) if there is none."""
        folder = files.newest_backup(self.directory)
        if folder is None:
            return ResumePoint(0, 0)
        state = files.read_state(folder)
        return ResumePoint(state["epoch"], state["step"])

    def data(self, one_epoch: Callable[[tf.Tensor], tf.data.Dataset]) -> tf.data.Dataset:
        """A data set for ``fit`` whose order depends on the epoch's number alone, so also after resuming.

        Args:
            one_epoch: from the epoch's number, a scalar int64 tensor, the batches of that epoch, each time as many.

        Returns:
            The data set: each pass over it in ``fit`` brings the batches of the epoch that runs.

        Example:
            >>> images = tf.data.Dataset.from_tensor_slices((x, y))
            >>> def one_epoch(epoch):
            ...     return images.shuffle(len(x), seed=epoch, reshuffle_each_iteration=False).batch(16)
            >>> model.fit(backup.data(one_epoch), epochs=20, callbacks=[backup])
        """
        epoch_now = tf.Variable(self.resume_point.epoch, dtype=tf.int64, trainable=False, name="epoch")
        self._epoch_now = epoch_now

        def batches(_):
            graph = tf.compat.v1.get_default_graph()
            graph.seed = graph.seed or 1  # TensorFlow takes no tensor for a seed beside a global seed of 0
            return one_epoch(epoch_now.read_value())

        size = int(one_epoch(tf.constant(0, tf.int64)).cardinality())
        data = tf.data.Dataset.from_tensors(0).flat_map(batches)
        return data.apply(tf.data.experimental.assert_cardinality(size)) if size >= 0 else data

    # --- what fit calls ----------------------------------------------------------------------------------------

    def on_train_begin(self, logs: Any = None) -> None:
        self._check_model()
        self._step, self._to_skip, self._since_saved = 0, 0, 0
        for state in schedule_states_of(self.model):
            state.unfinished = frozenset()  # of a fit that was interrupted before
        folder = files.newest_backup(self.directory)
        if folder is not None:
            self._restore(folder)
        files.remove_leftovers(self.directory)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        begin_fit_at(self.model, None)  # what was said counts for this fit alone
        self._epoch, self._step = epoch, 0
        self._set_epoch_of_data(epoch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        done = batch + 1 - self._step
        self._step = batch + 1
        if self._train_function is not None:
            if self._to_skip <= 0:
                self._stop_skipping()
            return
        self._since_saved += done
        if self.save_freq != "epoch" and self._since_saved >= int(self.save_freq):
            self._save(ResumePoint(self._epoch, self._step), must_be_over="step")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._stop_skipping()
        if self._to_skip >= steps_per_execution(self.model):  # the last execution of an epoch may be of fewer steps
            raise ValueError(
                f"The backup in {self.directory.absolute()} was made {self._to_skip} steps further in epoch {epoch} "
                f"than the data reaches: give fit the data it was made with. {files.what_to_do(self.directory)}"
            )
        self._save(ResumePoint(epoch + 1, 0), must_be_over="epoch")
        self._set_epoch_of_data(epoch + 1)  # before fit asks for the next epoch's iterator

    def on_train_end(self, logs: Any = None) -> None:
        begin_fit_at(self.model, None)
        if self.delete_checkpoint:
            files.remove_backups(self.directory)

    # --- saving and restoring ----------------------------------------------------------------------------------

    def _check_model(self) -> None:
        if not self.model.built:
            raise ValueError(
                f"TrainingBackup needs a built model, and {self.model.name!r} is not: call it once on a batch "
                "before fit()."
            )
        if getattr(self.model, "optimizer", None) is None:
            raise ValueError("TrainingBackup backs up an optimizer too: compile the model with one before fit().")
        layers = unrepeatable_layers(self.model)
        if layers:
            warnings.warn(
                f"{', '.join(layers)}: the random numbers of tf_keras' default generators cannot be saved, so training "
                "that is resumed draws others. Call keras.backend.experimental.enable_tf_random_generator() before "
                "building the model.",
                stacklevel=2,
            )

    def _save(self, point: ResumePoint, must_be_over: str) -> None:
        if any(must_be_over in state.unfinished for state in schedule_states_of(self.model)):
            raise ValueError(
                "TrainingBackup would save before QuantizationSchedule has counted: list TrainingBackup last among the "
                "callbacks."
            )
        groups = contents.variables_of(self.model)
        state = {
            **contents.description(self.model, groups),
            "epoch": point.epoch,
            "step": point.step,
            "random": contents.random_state(),
        }
        files.write_backup(self.directory, state, contents.values_of(groups))
        self._since_saved = 0

    def _restore(self, folder: Path) -> None:
        state = files.read_state(folder)
        groups = contents.variables_of(self.model)
        reason = contents.difference(state, contents.description(self.model, groups))
        if reason is not None:
            raise ValueError(
                f"The backup {folder.absolute()} does not fit this model: {reason}. "
                f"{files.what_to_do(self.directory)} To go on from it, build, quantize and compile the model as then."
            )
        contents.set_values(groups, files.read_arrays(folder))
        contents.set_random_state(state["random"])
        begin_fit_at(self.model, state["epoch"])
        self._set_epoch_of_data(state["epoch"])
        self._skip(state["step"])

    def _set_epoch_of_data(self, epoch: int) -> None:
        if self._epoch_now is not None:
            self._epoch_now.assign(epoch)

    # --- passing over the batches of an epoch half done --------------------------------------------------------

    def _skip(self, steps: int) -> None:
        """Makes ``fit`` read the next batches without training on them."""
        if steps == 0:
            return
        model = self.model
        self._to_skip = steps
        self._train_function = train = getattr(model.train_function, "_behind", model.train_function)

        def pass_over(iterator):
            try:
                for _ in range(steps_per_execution(model)):
                    next(iterator)
                    self._to_skip -= 1
            except BaseException:
                self._stop_skipping()
                raise
            return {}

        pass_over._behind = train  # type: ignore[attr-defined]
        model.train_function = pass_over
        set_skipping(model, True)

    def _stop_skipping(self) -> None:
        if self._train_function is not None:
            self.model.train_function = self._train_function
            self._train_function = None
            set_skipping(self.model, False)
