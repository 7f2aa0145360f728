package bfbridge;

/** A data set asks for a file that it may not open. An Error: readers catch exceptions, and go on. */
final class Refused extends Error {

  private static final long serialVersionUID = 1L;

  /**
   * @param message "objection: name"
   */
  Refused(String message) {
    super(message);
  }
}
