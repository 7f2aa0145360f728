package bfbridge;

/** A file declares more than the limits allow. An Error: readers catch exceptions and continue. */
final class Exceeded extends Error {

  private static final long serialVersionUID = 1L;

  /**
   * @param what is too large
   * @param limit the maximum
   */
  Exceeded(String what, long limit) {
    super(what + ":" + limit);
  }
}
