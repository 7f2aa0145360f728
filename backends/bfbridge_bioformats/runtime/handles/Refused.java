package bfbridge;

/** A data set names a file that it may not open. An Error: readers catch exceptions and continue. */
final class Refused extends Error {

  private static final long serialVersionUID = 1L;

  /**
   * @param message "objection: name"
   */
  Refused(String message) {
    super(message);
  }
}
