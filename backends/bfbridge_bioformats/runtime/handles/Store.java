package bfbridge;

import java.io.IOException;
import loci.common.services.DependencyException;
import loci.common.services.ServiceException;
import loci.common.services.ServiceFactory;
import loci.formats.FormatException;
import loci.formats.IFormatReader;
import loci.formats.ome.OMEXMLMetadata;
import loci.formats.services.OMEXMLService;

/**
 * A reader's metadata store, with the few methods that are asked from Python.
 *
 * The interface behind it has a thousand methods; to make them known to Python takes 0.1 s.
 */
public final class Store {

  private final OMEXMLService service;
  private final OMEXMLMetadata metadata;

  /**
   * @param images as many as it takes of them
   * @param channels of all images
   * @param planes of all images
   */
  public Store(int images, int channels, int planes) throws DependencyException {
    service = new ServiceFactory().getInstance(OMEXMLService.class);
    metadata = new Bounded(images, channels, planes);
  }

  /** Has a reader fill this store when it opens a file. */
  public void fillFrom(IFormatReader reader) {
    reader.setMetadataStore(metadata);
  }

  /**
   * Opens a file.
   *
   * @param store what the reader fills then, or null
   */
  public static void open(IFormatReader reader, String id, Store store)
      throws FormatException, IOException {
    try {
      reader.setId(id);
    } catch (OutOfMemoryError e) {
      // What the reader and the store hold may be all there is.
      drop(reader, store);
      throw OutOfHeap.INSTANCE;
    }
  }

  private static void drop(IFormatReader reader, Store store) {
    try {
      if (store != null) {
        store.metadata.createRoot();
      }
      reader.close();
    } catch (IOException | Error e) {
      // It is dropped by who made it, too.
      return;
    }
  }

  /** The whole store as OME-XML. */
  public String xml() throws ServiceException {
    try {
      return service.getOMEXML(metadata);
    } catch (OutOfMemoryError e) {
      throw OutOfHeap.INSTANCE;
    }
  }

  /** What the reader that filled this store says of all its series: see Records. */
  public byte[] describe(IFormatReader reader) {
    try {
      return Records.describe(reader, metadata);
    } catch (OutOfMemoryError e) {
      drop(reader, this);
      throw OutOfHeap.INSTANCE;
    }
  }
}
