package bfbridge;

import loci.common.services.DependencyException;
import loci.common.services.ServiceException;
import loci.common.services.ServiceFactory;
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

  public Store() throws DependencyException, ServiceException {
    service = new ServiceFactory().getInstance(OMEXMLService.class);
    metadata = service.createOMEXMLMetadata();
  }

  /** Has a reader fill this store when it opens a file. */
  public void fillFrom(IFormatReader reader) {
    reader.setMetadataStore(metadata);
  }

  /** The whole store as OME-XML. */
  public String xml() throws ServiceException {
    return service.getOMEXML(metadata);
  }

  /** What the reader that filled this store says of all its series: see Records. */
  public byte[] describe(IFormatReader reader) {
    return Records.describe(reader, metadata);
  }
}
