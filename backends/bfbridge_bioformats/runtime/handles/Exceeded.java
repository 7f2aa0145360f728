package bfbridge;

/** A file declares more than is allowed. An Error: readers catch exceptions, and go on. */
final class Exceeded extends Error {

  private static final long serialVersionUID = 1L;

  /**
   * @param what is too many
   * @param limit how many there may be
   */
  Exceeded(String what, long limit) {
    super(what + ":" + limit);
  }
}
