package bfbridge;

/**
 * The heap was not enough, and what had filled it was dropped.
 *
 * Thrown in place of Java's own error, which is told to Python while all that fills the heap is still
 * held: then there may be no memory to tell it.
 */
final class OutOfHeap extends Error {

  private static final long serialVersionUID = 1L;

  /** Made before it is needed. */
  static final OutOfHeap INSTANCE = new OutOfHeap();

  private OutOfHeap() {
    super("Java heap space", null, false, false);
  }
}
