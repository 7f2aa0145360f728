package bfbridge;

/**
 * The heap was too small; the objects that filled it have been released.
 *
 * Thrown instead of Java's own error, which is passed to Python while these objects still fill the
 * heap, so that there may be no memory to report it.
 */
final class OutOfHeap extends Error {

  private static final long serialVersionUID = 1L;

  /** Created before it is needed. */
  static final OutOfHeap INSTANCE = new OutOfHeap();

  private OutOfHeap() {
    super("Java heap space", null, false, false);
  }
}
